"""Replays under way and the namespaces that they made."""

from __future__ import annotations

from typing import Any

from schemas.settings import Settings
from services.dashboard.figures.snapshot import Replay
from streams.store.keys import checkpoint_key, default_namespace, namespace_pointer, namespace_records
from streams.store.records import NamespaceRecord

SHOWN = 20


class ReplaysReader:
    """Reads the records of namespaces and how far each has come.

    Parameters
    ----------
    redis : redis.Redis or RedisCluster
        Blocking, with raw replies.
    """

    def __init__(self, settings: Settings, redis: Any) -> None:
        self._redis = redis
        self._prefix = settings.topic_prefix

    def read(self) -> tuple[Replay, ...]:
        """Return the newest replays and snapshots, the newest first."""
        records = [NamespaceRecord.from_json(text) for text in self._redis.hvals(namespace_records(self._prefix))]
        newest = sorted(records, key=lambda record: (-record.created_ms, record.id))[:SHOWN]
        if not newest:
            return ()
        pointer = self._redis.get(namespace_pointer(self._prefix))
        live = pointer.decode() if pointer else default_namespace(self._prefix)
        return tuple(self._progress(record, live) for record in newest)

    def close(self) -> None:
        """Nothing is held."""

    def _progress(self, record: NamespaceRecord, live: str) -> Replay:
        pipeline = self._redis.pipeline(transaction=False)
        for partition in record.start:
            pipeline.hget(checkpoint_key(record.namespace, partition), "next_offset")
        wanted = sum(record.end[partition] - start for partition, start in record.start.items())
        folded = sum(
            min(max(int(offset or 0), start), record.end[partition]) - start
            for (partition, start), offset in zip(record.start.items(), pipeline.execute(), strict=True)
        )
        return Replay(record.id, _role(record, live), record.created_ms, folded, wanted, _note(record))


def _role(record: NamespaceRecord, live: str) -> str:
    if record.namespace == live:
        return "live"
    if not record.done:
        return "under way"
    return "partial" if record.partial else "ready"


def _note(record: NamespaceRecord) -> str:
    if record.partial:
        return "; ".join(record.partial)
    if record.equals_live is None:
        return f"leaves out {record.left_out:,} excluded listens" if record.left_out else ""
    return "equals the live state" if record.equals_live else "differs from the live state"
