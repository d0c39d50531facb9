"""Which namespace is the live one, and making another one that."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from core.errors import BotifyError
from streams.folds.partition import HASHES, SCORE_SETS
from streams.store.connect import patiently
from streams.store.keys import (
    checkpoint_key,
    default_namespace,
    namespace_history,
    namespace_of,
    namespace_pointer,
    namespace_records,
    partition_key,
)

_SWAP = Path(__file__).with_name("swap.lua")


async def live_namespace(redis: Any, prefix: str) -> str:
    """Return the namespace that workers write and readers read."""
    pointer: bytes | None = await patiently(redis, lambda: redis.get(namespace_pointer(prefix)))
    return pointer.decode() if pointer else default_namespace(prefix)


async def former_namespaces(redis: Any, prefix: str) -> list[str]:
    """Return those that were the live one, the last one last."""
    return [name.decode() for name in await redis.lrange(namespace_history(prefix), 0, -1)]


async def make_live(redis: Any, prefix: str, expected: str, new: str, *, back: bool = False) -> str:
    """Point to another namespace, if the live one still is the expected one.

    Parameters
    ----------
    back : bool
        Whether this goes back to the last of the history, which is then taken from it.

    Returns
    -------
    str
        The namespace that is live now: not `new`, where somebody else was faster.
    """
    swap = redis.register_script(_SWAP.read_text(encoding="utf-8"))
    keys = [namespace_pointer(prefix), namespace_history(prefix)]
    live: bytes = await swap(keys=keys, args=[default_namespace(prefix), expected, new, "back" if back else "on"])
    return live.decode()


async def checkpoints(redis: Any, namespace: str, partitions: Iterable[int]) -> dict[int, int]:
    """Return the next offset to be folded of each partition; 0 where it has no state."""
    found = {}
    for partition in partitions:
        found[partition] = int(await redis.hget(checkpoint_key(namespace, partition), "next_offset") or 0)
    return found


async def remove(
    redis: Any,
    prefix: str,
    namespace: str,
    partitions: Iterable[int],
    collections: Sequence[str] = (*HASHES, *SCORE_SETS),
) -> int:
    """Remove a namespace from Redis, a partition a command, and from the history; return how many keys that were.

    Redis frees the memory in a thread of its own (UNLINK), so nobody waits for it.
    """
    removed = 0
    for partition in partitions:
        keys = [partition_key(namespace, partition, name) for name in collections]
        removed += await redis.unlink(checkpoint_key(namespace, partition), *keys)
    await redis.lrem(namespace_history(prefix), 0, namespace)
    return removed


class LiveNamespace:
    """Says when another namespace has become the live one.

    Parameters
    ----------
    redis : redis.asyncio.Redis or RedisCluster
    prefix : str
        The settings' `topic_prefix`.
    seen : str
        The live namespace, as far as the caller knows.
    """

    def __init__(self, redis: Any, prefix: str, seen: str) -> None:
        self._redis = redis
        self._prefix = prefix
        self._seen = seen

    async def look(self) -> str | None:
        """Return the live namespace where it is another than at the last look, else None."""
        live = await live_namespace(self._redis, self._prefix)
        if live == self._seen:
            return None
        self._seen = live
        return live


class UnknownNamespaceError(BotifyError):
    """Nobody made a namespace of that id."""


@dataclass(frozen=True, slots=True)
class NamespaceRecord:
    """A namespace that a replay or a snapshot makes.

    Attributes
    ----------
    id : str
        `r…` of a replay, `s…` of a snapshot; the namespace is `<prefix>.<id>`.
    namespace : str
    created_ms : int
        Wall clock.
    start, end : mapping of partition to offset
        What it was to hold when it was begun; afterwards it goes on with the topic.
    projections : sequence of str
    partial : sequence of str
        Why it is not the whole state; empty where it is.
    done : bool
        Whether `end` was reached.
    equals_live : bool | None
        What comparing it with the live namespace gave; None where that was not done, or where they may differ.
    excluded : mapping of partition to int
        Listens that operators had excluded when it was begun (`RejectedBefore.excluded`); they are not in it.
    left_out : int
        How many of those the live namespace may have had, which is why they may differ.
    sessions_to : str | None
        Topic that takes the sessions which close in it before it is live.
    """

    id: str
    namespace: str
    created_ms: int
    start: Mapping[int, int]
    end: Mapping[int, int]
    projections: Sequence[str]
    partial: Sequence[str] = ()
    done: bool = False
    equals_live: bool | None = None
    excluded: Mapping[int, int] = field(default_factory=dict)
    left_out: int = 0
    sessions_to: str | None = None

    def with_(self, **changes: Any) -> Self:
        """Return a copy with some fields changed."""
        return replace(self, **changes)

    def to_json(self) -> str:
        """Return the text that `from_json` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Read a record."""
        fields = json.loads(text)
        for name in ("start", "end", "excluded"):  # JSON's names are strings
            fields[name] = {int(partition): offset for partition, offset in fields.get(name, {}).items()}
        return cls(**fields)


def excluded_since(record: NamespaceRecord | None, excluded: Mapping[int, int]) -> dict[int, int]:
    """Return how many more listens are excluded than the namespace knew, by partition, where any are.

    Parameters
    ----------
    record : NamespaceRecord | None
        None of the namespace that a deployment starts with, which may have all of them.
    excluded : mapping of partition to int
        As of now, or as another namespace knew it.

    Examples
    --------
    >>> excluded_since(NamespaceRecord("r1", "b.r1", 0, {}, {}, (), excluded={0: 5}), {0: 5, 1: 2})
    {1: 2}
    """
    known = record.excluded if record else {}
    return {p: count - known.get(p, 0) for p, count in sorted(excluded.items()) if count > known.get(p, 0)}


class NamespaceRecords:
    """The records of a deployment, in a hash in Redis.

    Parameters
    ----------
    redis : redis.asyncio.Redis or RedisCluster
        With raw replies.
    prefix : str
        The settings' `topic_prefix`.
    """

    def __init__(self, redis: Any, prefix: str) -> None:
        self._redis = redis
        self._prefix = prefix
        self._key = namespace_records(prefix)

    async def all(self) -> list[NamespaceRecord]:
        """Return all, oldest first."""
        found = [NamespaceRecord.from_json(text) for text in (await self._redis.hgetall(self._key)).values()]
        return sorted(found, key=lambda record: (record.created_ms, record.id))

    async def get(self, id_: str) -> NamespaceRecord:
        """Return the one of that id.

        Raises
        ------
        UnknownNamespaceError
            There is none.
        """
        text = await self._redis.hget(self._key, id_)
        if text is None:
            known = ", ".join(record.id for record in await self.all()) or "none"
            raise UnknownNamespaceError(f"namespace {id_!r} does not exist; known namespaces: {known}")
        return NamespaceRecord.from_json(text)

    async def find(self, namespace: str) -> NamespaceRecord | None:
        """Return the one of that namespace; None of the one that a deployment starts with."""
        return next((record for record in await self.all() if record.namespace == namespace), None)

    async def put(self, record: NamespaceRecord) -> None:
        """Write the record, or write it again."""
        await self._redis.hset(self._key, record.id, record.to_json())

    async def remove(self, id_: str) -> None:
        """Forget the record."""
        await self._redis.hdel(self._key, id_)

    async def begin(self, kind: str, **fields: Any) -> NamespaceRecord:
        """Give out an id and write the record of a namespace that is about to be filled.

        Parameters
        ----------
        kind : str
            First letter of the id; the second in hexadecimal follows.
        **fields
            Of `NamespaceRecord`, but for id, namespace and time.
        """
        second = int(time.time())
        while await self._redis.hexists(self._key, id_ := f"{kind}{second:x}"):
            second += 1
        made_ms = int(time.time() * 1000)
        record = NamespaceRecord(id=id_, namespace=namespace_of(self._prefix, id_), created_ms=made_ms, **fields)
        await self.put(record)
        return record
