import inspect
from pathlib import Path
from typing import Any

import pytest

from botify.core.kafka.admin import TopicState
from botify.streams.store import keys
from botify.streams.store.protocol import Claim, MemoryStore, MissingStateError, TopicMismatchError, offset_to_start_at
from tests.store_contract import StoreContract


def start_at(
    next_offset: int | None,
    start: int = 0,
    *,
    committed: int | None = None,
    topic_id: str = "id",
    rebuild: bool = False,
) -> int:
    state = TopicState("t", "id", {3: start}, {3: 50}, {} if committed is None else {3: committed})
    return offset_to_start_at(3, Claim(1, "me", next_offset, topic_id), state, rebuild_missing=rebuild)


@pytest.mark.parametrize(
    ("next_offset", "start", "where"), [(0, 0, 0), (10, 0, 10), (50, 0, 50), (10, 10, 10), (None, 0, 0)]
)
def test_folding_begins_at_the_checkpoint_or_with_the_topic(next_offset: int | None, start: int, where: int) -> None:
    assert start_at(next_offset, start) == where


@pytest.mark.parametrize(
    ("next_offset", "topic", "why"),
    [
        (10, {"topic_id": "old"}, r"t was deleted and recreated \(id id; the state is of old\)"),
        (None, {"start": 5, "rebuild": True}, r"t\[3\] has no state in Redis, and its first 5 records are gone"),
        (10, {"start": 11}, "the state ends at offset 10, the topic begins at 11"),
        (51, {}, "the state is at offset 51, the topic ends at 50"),
    ],
)
def test_a_topic_that_the_state_is_not_of_is_refused(next_offset: int | None, topic: dict[str, Any], why: str) -> None:
    with pytest.raises(TopicMismatchError, match=why):
        start_at(next_offset, **topic)


def test_state_that_vanished_is_missed_unless_it_may_be_made_anew() -> None:
    assert start_at(None, committed=0) == 0
    with pytest.raises(MissingStateError, match=r"had been folded up to offset 20.*BOTIFY_ON_MISSING_STATE=rebuild"):
        start_at(None, committed=20)
    assert start_at(None, committed=20, rebuild=True) == 0


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()


ARCHITECTURE = Path(__file__).parents[4] / "docs/architecture.md"
PREFIX, LIVE = "botify", keys.default_namespace("botify")
KEYS = {
    "namespace_pointer": keys.namespace_pointer(PREFIX),
    "namespace_history": keys.namespace_history(PREFIX),
    "namespace_records": keys.namespace_records(PREFIX),
    "dead_letter_resolutions": keys.dead_letter_resolutions(PREFIX),
    "redrive_lock": keys.redrive_lock(PREFIX),
    "gateway_session": keys.gateway_session(PREFIX, 42),
    "gateway_slates": keys.gateway_slates(PREFIX, 42),
    "gateway_given": keys.gateway_given(PREFIX, 42),
    "gateway_name": keys.gateway_name(PREFIX, 42),
    "gateway_feedback": keys.gateway_feedback(PREFIX, 42),
    "gateway_erasure": keys.gateway_erasure(PREFIX, 42),
    "gateway_items": keys.gateway_items(PREFIX),
    "checkpoint_key": keys.checkpoint_key(LIVE, 3),
    "copy_of": keys.partition_key(LIVE, 3, keys.copy_of("<collection>", "<token>")),
}
PARTS = {"learner_prefix", "namespace_of", "id_of", "default_namespace", "feedback_of", "partition_key"}
"""They make parts of keys."""
NEVER_WRITTEN = {"write_probe"}


def test_the_documented_table_names_every_key() -> None:
    builders = {name for name, _ in inspect.getmembers(keys, inspect.isfunction)}
    assert builders == KEYS.keys() | PARTS | NEVER_WRITTEN
    rows = [line for line in ARCHITECTURE.read_text(encoding="utf-8").splitlines() if line.startswith("| `{")]
    missing = [key for key in KEYS.values() if not any(f"`{key}`" in row for row in rows)]
    assert missing == []
