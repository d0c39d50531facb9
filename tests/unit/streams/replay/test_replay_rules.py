"""The pure parts of a replay: places, plans, pace, and what may be swapped or removed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from botify.core.kafka.admin import TopicState
from botify.core.kafka.reader import LogRecord
from botify.streams.replay.sources import Pacer, ReplayError, make_plan
from botify.streams.replay.swap import removable, validate_swap
from botify.streams.replay.targets import NamespaceTarget
from botify.streams.store.namespaces import NamespaceRecord, excluded_since

STATE = TopicState("t", "an-id", start={0: 0, 1: 0}, end={0: 50, 1: 20})


@pytest.mark.parametrize(("partitions", "projections"), [([2], ["users"]), ([0], ["dislikes"])])
def test_what_does_not_exist_is_refused(partitions: list[int], projections: list[str]) -> None:
    with pytest.raises(ReplayError, match=r"choose from|it has"):
        make_plan("t", STATE, STATE.start, STATE.end, partitions, projections)


class FakeTime:
    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


def send(pacer: Pacer, times_ms: list[int], time: FakeTime) -> list[float]:
    async def go() -> list[float]:
        sent = []
        for part in pacer.parts([LogRecord("t", 0, at, ms, None, None, ()) for at, ms in enumerate(times_ms)]):
            await pacer.wait(part)
            sent += [time.now] * len(part)
        return sent

    return asyncio.run(go())


def test_records_keep_their_distances_at_ten_times_the_speed() -> None:
    time = FakeTime()
    sent = send(Pacer(speed=10.0, clock=time.clock, sleep=time.sleep), [5000, 6000, 6001, 15_000], time)
    assert sent == pytest.approx([0.0, 0.1, 0.1, 1.0], abs=0.001)


def test_no_more_records_a_second_than_the_rate() -> None:
    time = FakeTime()
    sent = send(Pacer(rate=100.0, clock=time.clock, sleep=time.sleep), [0] * 500, time)
    assert sent[-1] == pytest.approx(5.0, abs=0.05)


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


class OneTransaction:
    """A Redis that knows a transaction, and no command outside it."""

    def __init__(self) -> None:
        self.executed: list[list[str]] = []

    @asynccontextmanager
    async def pipeline(self, *, transaction: bool) -> AsyncIterator[Any]:
        fields: list[str] = []

        async def execute() -> None:
            self.executed.append(fields)

        assert transaction
        yield SimpleNamespace(hsetnx=lambda key, field, value: fields.append(field), execute=execute)


def test_a_late_beginning_is_noted_at_once() -> None:
    """A store that rolled back in between would keep a state that seems to begin at offset 0."""
    target, redis = object.__new__(NamespaceTarget), OneTransaction()
    target._namespace, target._sources = "live", SimpleNamespace(redis=redis, letters=dict)  # type: ignore[assignment]
    asyncio.run(target.prepare(0, 7))
    assert redis.executed == [["first_offset", "next_offset", "letters"]]
