"""Invariant: the table of Redis keys in docs/architecture.md names every key that `streams.store.keys` builds."""

from __future__ import annotations

import inspect
from pathlib import Path

from botify.streams.store import keys

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
