from __future__ import annotations

import pytest

from botify.core.kafka.admin import TopicState
from botify.streams.store.protocol import Claim, MissingStateError, TopicMismatchError, offset_to_start_at


def start_at(
    next_offset: int | None,
    *,
    start: int = 0,
    end: int = 50,
    committed: int | None = None,
    topic_id: str = "id",
    rebuild: bool = False,
) -> int:
    state = TopicState("t", "id", {3: start}, {3: end}, {} if committed is None else {3: committed})
    return offset_to_start_at(3, Claim(1, "me", next_offset, topic_id), state, rebuild_missing=rebuild)


@pytest.mark.parametrize("next_offset", [0, 10, 50])
def test_folding_goes_on_at_the_checkpoint(next_offset: int) -> None:
    assert start_at(next_offset) == next_offset


def test_the_checkpoint_may_be_the_first_record_that_is_left() -> None:
    assert start_at(10, start=10) == 10


def test_without_state_folding_begins_with_the_topic() -> None:
    assert start_at(None) == 0
    assert start_at(None, committed=0) == 0


def test_another_topic_of_that_name_is_refused() -> None:
    with pytest.raises(TopicMismatchError, match=r"t was deleted and recreated \(id id; the state is of old\)"):
        start_at(10, topic_id="old")


def test_no_state_and_records_gone_is_refused() -> None:
    with pytest.raises(TopicMismatchError, match=r"t\[3\] has no state in Redis, and its first 5 records are gone"):
        start_at(None, start=5, rebuild=True)


def test_records_gone_behind_the_checkpoint_are_refused() -> None:
    with pytest.raises(TopicMismatchError, match="the state ends at offset 10, the topic begins at 11"):
        start_at(10, start=11)


def test_a_topic_that_lost_records_is_refused() -> None:
    with pytest.raises(TopicMismatchError, match="the state is at offset 51, the topic ends at 50"):
        start_at(51)


def test_state_that_vanished_is_missed_unless_it_may_be_made_anew() -> None:
    with pytest.raises(MissingStateError, match=r"had been folded up to offset 20.*BOTIFY_ON_MISSING_STATE=rebuild"):
        start_at(None, committed=20)
    assert start_at(None, committed=20, rebuild=True) == 0
