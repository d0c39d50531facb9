"""A partition as it was at one checkpoint, while workers go on: a copy inside Redis, its contents, its digest.

A partition's state at one checkpoint, held still while it is read and the worker goes on.

Reading a collection page by page takes a while, in which the worker changes it. So Redis copies the partition first,
in one script with the checkpoint (measured: 6 to 20 ms for 10,000 listeners), and the copy is read.
"""

from __future__ import annotations

import hashlib
import struct
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from streams.folds.partition import HASHES, SCORE_SETS
from streams.store.keys import checkpoint_key, copy_of, partition_key

PAGE_ITEMS = 1000


class Contents(Protocol):
    """What a namespace holds, for those who read all of it. An item may come twice, with the same value."""

    def hash_pages(self, partition: int, collection: str) -> AsyncIterator[Mapping[bytes, bytes]]:
        """Yield pages of a hash."""

    def score_pages(self, partition: int, collection: str) -> AsyncIterator[Mapping[bytes, float]]:
        """Yield pages of a sorted set."""


class RedisContents:
    """A namespace in Redis, or a copy of one of its partitions.

    Parameters
    ----------
    redis : redis.asyncio.Redis or RedisCluster
        With raw replies.
    namespace : str
    copy : str, optional
        Token of the copy that is read (see `streams.store.point_in_time`).
    """

    def __init__(self, redis: Any, namespace: str, copy: str | None = None) -> None:
        self._redis = redis
        self._namespace = namespace
        self._copy = copy

    async def hash_pages(self, partition: int, collection: str) -> AsyncIterator[Mapping[bytes, bytes]]:
        """Yield pages of a hash; see `Contents`."""
        key, cursor = self._key(partition, collection), 0
        while True:
            cursor, page = await self._redis.hscan(key, cursor, count=PAGE_ITEMS)
            yield page
            if not cursor:
                return

    async def score_pages(self, partition: int, collection: str) -> AsyncIterator[Mapping[bytes, float]]:
        """Yield pages of a sorted set; see `Contents`."""
        key, cursor = self._key(partition, collection), 0
        while True:
            cursor, pairs = await self._redis.zscan(key, cursor, count=PAGE_ITEMS)
            yield dict(pairs)
            if not cursor:
                return

    def _key(self, partition: int, collection: str) -> str:
        name = collection if self._copy is None else copy_of(collection, self._copy)
        return partition_key(self._namespace, partition, name)


async def digest(contents: Contents, partition: int) -> dict[str, str]:
    """Return a SHA-256 of each collection, in hex; the order in which the store keeps the items has no part in it.

    Only the state is covered, not the checkpoint: compare partitions that are at the same one. Memory is bounded by
    the largest collection, with about 150 bytes an item.

    Examples
    --------
    >>> import asyncio
    >>> from streams.store.protocol import MemoryStore
    >>> one, other = MemoryStore(), MemoryStore()
    >>> one.hashes[0, "users"] = {b"7": b"a", b"8": b"b"}
    >>> other.hashes[0, "users"] = {b"8": b"b", b"7": b"a"}
    >>> asyncio.run(digest(one, 0)) == asyncio.run(digest(other, 0))
    True
    """
    digests = {}
    for name in HASHES:
        digests[name] = await _of_hash(contents.hash_pages(partition, name))
    for name in SCORE_SETS:
        digests[name] = await _of_scores(contents.score_pages(partition, name))
    return digests


async def _of_hash(pages: AsyncIterator[Mapping[bytes, bytes]]) -> str:
    items = {}
    async for page in pages:
        # the values may be large: only their hashes wait to be sorted
        items.update({field: hashlib.sha256(value).digest() for field, value in page.items()})
    return _of_sorted(items.items())


async def _of_scores(pages: AsyncIterator[Mapping[bytes, float]]) -> str:
    items = {}
    async for page in pages:
        items.update({member: struct.pack("<d", score) for member, score in page.items()})
    return _of_sorted(items.items())


def _of_sorted(items: Iterable[tuple[bytes, bytes]]) -> str:
    whole = hashlib.sha256()
    for name, value in sorted(items):
        whole.update(struct.pack("<I", len(name)) + name + value)
    return whole.hexdigest()


COPY_TTL_S = 900
"""How long a copy lives whose reader was killed; also how long a reader may take."""

NOT_OF_THIS_TOPIC = -1
"""First offset of a state that follows on a snapshot of a topic that is gone."""

_SCRIPT = Path(__file__).with_name("freeze.lua")


@dataclass(frozen=True, slots=True)
class PartitionCopy:
    """A partition at one checkpoint.

    Attributes
    ----------
    next_offset : int | None
        The checkpoint; None where the partition has no state.
    topic_id : str | None
        Id of the topic that the state was folded from.
    first_offset : int
        Where its fold began: 0, later in a partial replay, or `NOT_OF_THIS_TOPIC`.
    contents : RedisContents
    """

    next_offset: int | None
    topic_id: str | None
    first_offset: int
    contents: RedisContents


@asynccontextmanager
async def point_in_time_copy(redis: Any, namespace: str, partition: int) -> AsyncIterator[PartitionCopy]:
    """Copy the partition; the copy is removed at the end.

    Parameters
    ----------
    redis : redis.asyncio.Redis or RedisCluster
        With raw replies.
    """
    token = uuid.uuid4().hex[:8]
    collections = (*HASHES, *SCORE_SETS)
    copies = [partition_key(namespace, partition, copy_of(name, token)) for name in collections]
    keys = [checkpoint_key(namespace, partition)]
    keys += [partition_key(namespace, partition, name) for name in collections]
    freeze = redis.register_script(_SCRIPT.read_text(encoding="utf-8"))
    try:
        next_offset, topic_id, first_offset = await freeze(keys=keys + copies, args=[COPY_TTL_S])
        yield PartitionCopy(
            next_offset=None if next_offset is None else int(next_offset),
            topic_id=None if topic_id is None else topic_id.decode(),
            first_offset=int(first_offset or 0),
            contents=RedisContents(redis, namespace, token),
        )
    finally:
        await redis.unlink(*copies)
