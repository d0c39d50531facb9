"""Which namespace is the live one, and making another one that."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from streams.folds.partition import HASHES, SCORE_SETS
from streams.store.connect import patiently
from streams.store.keys import checkpoint_key, default_namespace, namespace_history, namespace_pointer, partition_key

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
