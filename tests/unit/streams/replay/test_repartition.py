"""What a move decides without brokers."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from botify.core.errors import DecodeError
from botify.streams.replay.repartition import CopyPosition, check_target, folded_to_the_end, user_of
from botify.streams.replay.sources import ReplayError


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


class Brokers:
    """Two partitions that take a listen at each look until their leaders apply the closing, the second one late."""

    def __init__(self, applies_at: tuple[int, int]) -> None:
        self.ends, self.looks = [5, 5], 0
        self.stopped_at: dict[int, int] | None = None
        self._applies_at = applies_at

    async def closed_ends(self) -> dict[int, int]:
        self.looks += 1
        for partition, at in enumerate(self._applies_at):
            self.ends[partition] += self.looks <= at
        return {partition: self.ends[partition] for partition, at in enumerate(self._applies_at) if self.looks > at}

    async def follow(self) -> dict[int, int]:
        return self.stopped_at or dict(enumerate(self.ends))


def drain(brokers: Brokers, give_up: float) -> dict[int, int]:
    return dict(asyncio.run(folded_to_the_end("botify.listens", 2, brokers.closed_ends, brokers.follow, give_up)))


@settings(deadline=None, max_examples=30)
@given(st.tuples(st.integers(0, 20), st.integers(0, 20)))
def test_the_end_is_read_after_each_leader_has_refused(applies_at: tuple[int, int]) -> None:
    brokers = Brokers(applies_at)
    assert drain(brokers, float("inf")) == {0: 5 + applies_at[0], 1: 5 + applies_at[1]}


def test_a_leader_that_goes_on_taking_listens_is_named() -> None:
    with pytest.raises(ReplayError, match=r"leaders of partitions 1 have not refused listens of botify\.listens"):
        drain(Brokers((0, 99)), 0.0)


def test_workers_that_do_not_fold_the_end_are_named() -> None:
    brokers = Brokers((0, 0))
    brokers.ends[1] += 1
    brokers.stopped_at = {0: 5, 1: 5}
    with pytest.raises(ReplayError, match="the workers have not folded the end"):
        drain(brokers, 0.0)


def test_a_topic_that_lost_what_was_folded_is_no_success() -> None:
    brokers = Brokers((0, 0))
    brokers.stopped_at = {0: 5, 1: 9}
    with pytest.raises(ReplayError, match="ends before what the workers have folded in partitions 1: listens are gone"):
        drain(brokers, 0.0)
