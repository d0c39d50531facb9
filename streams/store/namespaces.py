"""Namespaces: the live one, their records, and the swap."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, Self

from botify.core.errors import BotifyError
from botify.streams.store.connect import patiently
from botify.streams.store.keys import (
    checkpoint_key,
    default_namespace,
    feedback_of,
    id_of,
    namespace_history,
    namespace_of,
    namespace_pointer,
    namespace_records,
    partition_key,
)
from botify.streams.store.node import call

_SWAP = Path(__file__).with_name("swap.lua")


async def live_namespace(redis: Any, prefix: str) -> str:
    """Return the namespace that workers write and readers read."""
    pointer: bytes | None = await patiently(redis, lambda: call(redis, ("GET", namespace_pointer(prefix))))
    return pointer.decode() if pointer else default_namespace(prefix)


async def former_namespaces(redis: Any, prefix: str) -> list[str]:
    """Return formerly live namespaces, the last one last."""
    return [name.decode() for name in await redis.lrange(namespace_history(prefix), 0, -1)]


async def make_live(redis: Any, prefix: str, expected: str, new: str, *, back: bool = False) -> str:
    """Make another namespace live if the live one is still the expected one; return the live one.

    With `back`, `new` is the last of the history, and is removed from it.
    """
    swap = redis.register_script(_SWAP.read_text(encoding="utf-8"))
    keys = [namespace_pointer(prefix), namespace_history(prefix)]
    live: bytes = await swap(keys=keys, args=[default_namespace(prefix), expected, new, "back" if back else "on"])
    return live.decode()


async def checkpoints(redis: Any, namespace: str, partitions: Iterable[int]) -> dict[int, int]:
    """Return the next offset of each partition; 0 if it has no state."""
    found = {}
    for partition in partitions:
        found[partition] = int(await redis.hget(checkpoint_key(namespace, partition), "next_offset") or 0)
    return found


async def remove(redis: Any, prefix: str, namespace: str, partitions: Iterable[int], collections: Sequence[str]) -> int:
    """Delete a namespace, with its opinions, also from the history; return the number of deleted keys."""
    removed = 0
    for name, partition in product((namespace, feedback_of(namespace)), partitions):
        keys = [partition_key(name, partition, collection) for collection in collections]
        removed += await redis.unlink(checkpoint_key(name, partition), *keys)  # of one slot
    await redis.lrem(namespace_history(prefix), 0, namespace)
    return removed


class UnknownNamespaceError(BotifyError):
    """There is no namespace of this id."""


@dataclass(frozen=True, slots=True)
class NamespaceRecord:
    """A namespace of a replay, a snapshot or rebuilt models."""

    id: str  # `r…` of a replay, `s…` of a snapshot, `m…` of models
    namespace: str  # `<prefix>.<id>`
    created_ms: int  # wall clock
    # start, end: the planned stretch by partition; once live, the namespace continues with the topic
    start: Mapping[int, int]
    end: Mapping[int, int]
    projections: Sequence[str]
    partial: Sequence[str] = ()  # why it is not the complete state; empty if it is
    done: bool = False  # whether it has reached `end`
    equals_live: bool | None = None  # None if that was not compared, or they may differ
    # excluded: listens excluded when it was begun, by partition; left_out: of these, the live namespace may have them
    excluded: Mapping[int, int] = field(default_factory=dict)
    left_out: int = 0
    sessions_to: str | None = None  # topic of the sessions that close in it before it is live
    # layout, partitions: of the listens topic that it is the fold of; None for as many as the settings say
    layout: str = ""
    partitions: int | None = None

    def with_(self, **changes: Any) -> Self:
        return replace(self, **changes)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        fields = json.loads(text)
        for name in ("start", "end", "excluded"):  # JSON's names are strings
            fields[name] = {int(partition): offset for partition, offset in fields.get(name, {}).items()}
        return cls(**fields)


def excluded_since(record: NamespaceRecord | None, excluded: Mapping[int, int]) -> dict[int, int]:
    """Return the number of listens excluded since a namespace was begun, by partition, without zeros.

    A deployment's first namespace has no record, and may have all of them.
    """
    known = record.excluded if record else {}
    return {p: count - known.get(p, 0) for p, count in sorted(excluded.items()) if count > known.get(p, 0)}


class NamespaceRecords:
    """The records of a deployment, in a hash in Redis; the client has raw replies."""

    def __init__(self, redis: Any, prefix: str) -> None:
        self._redis = redis
        self._prefix = prefix
        self._key = namespace_records(prefix)

    async def all(self) -> list[NamespaceRecord]:
        found = [NamespaceRecord.from_json(text) for text in (await self._redis.hgetall(self._key)).values()]
        return sorted(found, key=lambda record: (record.created_ms, record.id))

    async def get(self, id_: str) -> NamespaceRecord:
        """Return the record of an id; raises `UnknownNamespaceError`."""
        text = await self._redis.hget(self._key, id_)
        if text is None:
            known = ", ".join(record.id for record in await self.all()) or "none"
            raise UnknownNamespaceError(f"namespace {id_!r} does not exist; known namespaces: {known}")
        return NamespaceRecord.from_json(text)

    async def find(self, namespace: str) -> NamespaceRecord | None:
        """Return the record of a namespace; None for a deployment's first."""
        ask = ("HGET", self._key, id_of(self._prefix, namespace))
        text = await patiently(self._redis, lambda: call(self._redis, ask))
        return None if text is None else NamespaceRecord.from_json(text)

    async def put(self, record: NamespaceRecord) -> None:
        await self._redis.hset(self._key, record.id, record.to_json())

    async def remove(self, id_: str) -> None:
        await self._redis.hdel(self._key, id_)

    async def begin(self, kind: str, **fields: Any) -> NamespaceRecord:
        """Give out an id, `kind` and the second in hexadecimal, and write the record of a new namespace."""
        second, made_ms = int(time.time()), int(time.time() * 1000)
        while True:
            id_ = f"{kind}{second:x}"
            record = NamespaceRecord(id=id_, namespace=namespace_of(self._prefix, id_), created_ms=made_ms, **fields)
            if await self._redis.hsetnx(self._key, id_, record.to_json()):  # another command may begin one just now
                return record
            second += 1
