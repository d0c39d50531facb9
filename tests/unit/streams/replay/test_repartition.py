"""What a move decides without brokers."""

from __future__ import annotations

import pytest

from core.errors import DecodeError
from streams.replay.repartition import CopyPosition, check_target, user_of
from streams.replay.sources import ReplayError


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
