"""A partition's state in one line: equal digests mean equal state, wherever it is kept."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import AsyncIterator, Iterable, Mapping

from streams.folds.partition import HASHES, SCORE_SETS
from streams.store.contents import Contents


async def digest(contents: Contents, partition: int) -> dict[str, str]:
    """Return a SHA-256 of each collection, in hex; the order in which the store keeps the items has no part in it.

    Only the state is covered, not the checkpoint: compare partitions that are at the same one. Memory is bounded by
    the largest collection, with about 150 bytes an item.

    Examples
    --------
    >>> import asyncio
    >>> from streams.store.memory import MemoryStore
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
