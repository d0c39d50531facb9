"""Which namespace is the live one."""

from __future__ import annotations

from typing import Any

from streams.store.keys import default_namespace, namespace_pointer


async def live_namespace(redis: Any, prefix: str) -> str:
    """Return the namespace that workers write and readers read."""
    pointer: bytes | None = await redis.get(namespace_pointer(prefix))
    return pointer.decode() if pointer else default_namespace(prefix)
