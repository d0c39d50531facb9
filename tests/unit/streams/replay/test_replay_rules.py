"""The pure parts of a replay: places, plans, pace, and what may be swapped or removed."""

import asyncio
import json
from dataclasses import dataclass, field
from types import SimpleNamespace
from unittest.mock import ANY, AsyncMock, MagicMock, call

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from botify.core.errors import DecodeError
from botify.core.kafka.admin import TopicState
from botify.core.kafka.reader import LogRecord
from botify.streams.replay.repartition import CopyPosition, check_target, folded_to_the_end, user_of
from botify.streams.replay.sources import Pacer, ReplayError, make_plan
from botify.streams.replay.swap import removable, validate_swap
from botify.streams.replay.targets import NamespaceTarget
from botify.streams.store.namespaces import NamespaceRecord, excluded_since
from tests.support import Clock

STATE = TopicState("t", "an-id", start={0: 0, 1: 0}, end={0: 50, 1: 20})


@pytest.mark.parametrize(("partitions", "projections"), [([2], ["users"]), ([0], ["dislikes"])])
def test_what_does_not_exist_is_refused(partitions: list[int], projections: list[str]) -> None:
    with pytest.raises(ReplayError, match=r"choose from|it has"):
        make_plan("t", STATE, STATE.start, STATE.end, partitions, projections)


@pytest.mark.parametrize(
    ("pace", "times_ms", "sent"),
    [
        ({"speed": 10.0}, [5000, 6000, 6001, 15_000], [0.0, 0.1, 0.1, 1.0]),
        ({"rate": 100.0}, [0] * 6, [0.0, 0.0, 0.02, 0.02, 0.04, 0.04]),
    ],
)
async def test_records_are_sent_at_their_pace(pace: dict[str, float], times_ms: list[int], sent: list[float]) -> None:
    clock, sent_at = Clock(), list[float]()

    async def sleep(seconds: float) -> None:
        clock.now_s += seconds

    pacer = Pacer(**pace, clock=clock, sleep=sleep)
    for part in pacer.parts([LogRecord("t", 0, at, ms, None, None, ()) for at, ms in enumerate(times_ms)]):
        await pacer.wait(part)
        sent_at += [clock.now_s] * len(part)
    assert sent_at == pytest.approx(sent, abs=0.001)


def record(id_: str = "r1", **changes: object) -> NamespaceRecord:
    whole = NamespaceRecord(id_, f"b.{id_}", 0, {0: 0}, {0: 9}, ["users"], done=True, equals_live=True)
    return whole.with_(**changes)


@pytest.mark.parametrize(
    ("changes", "force", "reason"),
    [
        ({}, False, None),
        ({"equals_live": None}, False, None),
        ({"equals_live": False}, False, "differs"),
        ({"equals_live": False}, True, None),
        ({"done": False}, True, "not finished"),
        ({"partial": ["partition 0 begins at offset 5"]}, False, "begins at offset 5"),
        ({"partial": ["partition 0 begins at offset 5"]}, True, None),
        ({"partial": ["partitions 1 are left out"]}, True, "left out"),
        ({"namespace": "b.live"}, True, "already"),
    ],
)
def test_only_what_is_fit_is_swapped(changes: dict[str, object], force: bool, reason: str | None) -> None:
    found = validate_swap(record(**changes), "b.live", force=force)
    assert found is None if reason is None else reason in (found or "")


def test_what_was_begun_before_an_exclusion_is_not_swapped_unforced() -> None:
    assert "3 listens were excluded since" in (validate_swap(record(), "b.live", force=False, excluded=3) or "")
    assert validate_swap(record(), "b.live", force=True, excluded=3) is None


def test_a_record_is_read_as_it_was_written() -> None:
    written = record(partial=["partition 0 begins at offset 5"], excluded={0: 2, 7: 1}, sessions_to="t")
    assert NamespaceRecord.from_json(written.to_json().encode()) == written


def test_a_record_of_before_there_were_exclusions_knows_of_none() -> None:
    whole = record(partial=[])
    fields = json.loads(whole.to_json())
    for name in ("excluded", "left_out", "sessions_to"):
        del fields[name]
    assert NamespaceRecord.from_json(json.dumps(fields).encode()) == whole
    assert excluded_since(record(), {1: 4}) == excluded_since(None, {1: 4}) == {1: 4}


def test_only_what_nobody_needs_is_removed() -> None:
    known = [record("r1"), record("r2"), record("r3", done=False), record("r4")]
    former = ["b.live", "b.r1"]
    assert removable("b.r2", former, known, "b.live", everything=False) == ["b.live"]
    assert removable("b.r2", former, known, "b.live", everything=True) == ["b.live", "b.r1", "b.r3", "b.r4"]


def test_a_late_beginning_is_noted_at_once() -> None:
    """A store that rolled back in between would keep a state that seems to begin at offset 0."""
    target, redis, pipeline = object.__new__(NamespaceTarget), MagicMock(), MagicMock(execute=AsyncMock())
    redis.pipeline.return_value.__aenter__.return_value = pipeline
    target._namespace, target._sources = "live", SimpleNamespace(redis=redis, letters=dict)  # type: ignore[assignment]
    asyncio.run(target.prepare(0, 7))
    assert redis.method_calls == [call.pipeline(transaction=True)]
    notes = [call.hsetnx(ANY, name, ANY) for name in ("first_offset", "next_offset", "letters")]
    assert pipeline.method_calls == [*notes, call.execute()]


@pytest.mark.parametrize("wanted", [1, 2, 4, 6, 15])
def test_partitions_are_split_and_never_mixed(wanted: int) -> None:
    with pytest.raises(ReplayError, match="choose 8, 12, 16"):
        check_target(4, wanted)


def test_a_second_copier_is_betrayed_by_the_places_of_its_originals() -> None:
    position = CopyPosition()
    position.add(2, 0, 5)
    position.add(6, 0, 4)  # another partition has an order of its own
    with pytest.raises(ReplayError, match="two commands"):
        position.add(2, 1, 5)


def test_a_copy_goes_on_after_what_each_new_partition_has() -> None:
    position = CopyPosition()
    for at, original in enumerate((3, 8, 9)):
        position.add(1, at, original)
    position.add(5, 0, 4)
    position.add(9, 0, 7)
    assert position.begin(1, partitions=4, wanted=12) == 5  # partition 5 may lack 5 to 9
    assert [position.has(1, original) for original in (5, 9, 10)] == [True, True, False]
    assert position.begin(2, partitions=4, wanted=12) == 0
    assert position.ends == {1: 3, 5: 1, 9: 1}


@pytest.mark.parametrize("key", [None, b"", b"007", b"x"])
def test_a_record_without_a_listener_is_not_copied(key: bytes | None) -> None:
    with pytest.raises(DecodeError, match="no listener"):
        user_of(key, "botify.listens", 3)


@dataclass
class Brokers:
    """Two partitions that take a listen at each look until their leaders apply the closing, the second one late."""

    applies_at: tuple[int, int]
    ends: list[int] = field(default_factory=lambda: [5, 5])
    stopped_at: dict[int, int] | None = None
    markers: int = 0
    looks: int = 0

    async def closed_ends(self) -> dict[int, int]:
        self.looks += 1
        for partition, at in enumerate(self.applies_at):
            self.ends[partition] += self.looks <= at
        return {partition: self.ends[partition] for partition, at in enumerate(self.applies_at) if self.looks > at}

    async def follow(self) -> dict[int, int]:
        return self.stopped_at or dict(enumerate(self.ends))

    async def has_more(self, _partition: int, begin: int, end: int) -> bool:
        return begin + self.markers < end

    def drain(self, give_up: float) -> dict[int, int]:
        end = folded_to_the_end("botify.listens", 2, self.closed_ends, self.follow, self.has_more, give_up)
        return dict(asyncio.run(end))


@settings(max_examples=30)
@given(st.tuples(st.integers(0, 20), st.integers(0, 20)))
def test_the_end_is_read_after_each_leader_has_refused(applies_at: tuple[int, int]) -> None:
    assert Brokers(applies_at).drain(float("inf")) == {0: 5 + applies_at[0], 1: 5 + applies_at[1]}


@pytest.mark.parametrize(
    ("applies_at", "ends", "stopped_at", "why"),
    [
        ((0, 99), [5, 5], None, r"leaders of partitions 1 have not refused listens of botify\.listens"),
        ((0, 0), [5, 6], {0: 5, 1: 5}, "the workers have not folded the end"),
        ((0, 0), [5, 5], {0: 5, 1: 9}, "ends before what the workers have folded in partitions 1: listens are gone"),
    ],
)
def test_what_keeps_the_topic_from_its_end_is_named(
    applies_at: tuple[int, int], ends: list[int], stopped_at: dict[int, int] | None, why: str
) -> None:
    with pytest.raises(ReplayError, match=why):
        Brokers(applies_at, ends, stopped_at).drain(0.0)


def test_the_marker_of_a_transaction_is_not_waited_for() -> None:
    brokers = Brokers((0, 3), stopped_at={0: 5, 1: 7}, markers=1)
    assert brokers.drain(float("inf")) == {0: 5, 1: 7}
