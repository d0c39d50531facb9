"""Whole collections, page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

from streams.store.keys import copy_of, partition_key

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
        Token of the copy that is read (see `streams.store.frozen`).
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
