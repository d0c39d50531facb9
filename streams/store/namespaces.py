"""Which namespace is the live one, and making another one that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from streams.store.keys import default_namespace, namespace_history, namespace_pointer

_SWAP = Path(__file__).with_name("swap.lua")


async def live_namespace(redis: Any, prefix: str) -> str:
    """Return the namespace that workers write and readers read."""
    pointer: bytes | None = await redis.get(namespace_pointer(prefix))
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
