"""What the gateways know of each listener beside the session: the slates last shown, and likes and dislikes.

The slates are the gateways' own. Likes and dislikes are facts on the topic `feedback`; workers fold them into opinions
(`botify.streams.folds.feedback`), which the gateways read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

from botify.core.kafka.config import partition_of
from botify.services.gateway.sessions import ScriptBatcher
from botify.streams.folds.feedback import OPINIONS, Said, read_said
from botify.streams.folds.sessions import GAP_MS
from botify.streams.store.keys import (
    feedback_of,
    gateway_feedback,
    gateway_items,
    gateway_session,
    gateway_slates,
    partition_key,
)

SLATES = 4
"""Slates of a listener to which a listen is attributed."""

_HERE = Path(__file__).parent
_SESSION = "local session = redis.call('HMGET', KEYS[1], 'id', 'ended') return not session[2] and session[1]"
_FIELD = "return redis.call('HGET', KEYS[1], ARGV[1])"
_ALL_SLATES = "return redis.call('LRANGE', KEYS[1], 0, -1)"
_PUT_SLATE = (
    "redis.call('LPUSH', KEYS[1], ARGV[1]) redis.call('LTRIM', KEYS[1], 0, ARGV[2] - 1) "
    "return redis.call('PEXPIRE', KEYS[1], ARGV[3])"
)
_DELETE = "return redis.call('DEL', KEYS[1])"


class Opinions(NamedTuple):
    """Tracks that a listener said to like and to dislike, the newest last."""

    liked: list[int]
    disliked: list[int]


class ListenerStore(Protocol):
    """See `RedisListenerStore`."""

    async def session_and_opinions(self, user: int) -> tuple[str | None, Opinions]: ...  # noqa: D102
    async def opinions(self, user: int) -> Opinions: ...  # noqa: D102
    async def said(self, user: int) -> list[Said]: ...  # noqa: D102
    async def slates(self, user: int) -> list[bytes]: ...  # noqa: D102
    async def put_slate(self, user: int, slate: bytes) -> None: ...  # noqa: D102
    async def number_of(self, external_id: str, lowest: int) -> int: ...  # noqa: D102
    async def erase(self, user: int) -> None: ...  # noqa: D102


class RedisListenerStore:
    """In Redis or Redis Cluster, one script call for each operation; raises `UnavailableError` without an answer.

    Parameters
    ----------
    namespace : callable
        Returns the live namespace, without waiting.
    partitions : int
        Of the topic of feedback.
    """

    def __init__(self, batcher: ScriptBatcher, prefix: str, namespace: Callable[[], str], partitions: int) -> None:
        self._batcher = batcher
        self._prefix = prefix
        self._namespace, self._partitions = namespace, partitions
        self._number = (_HERE / "number_item.lua").read_text(encoding="utf-8")

    async def session_and_opinions(self, user: int) -> tuple[str | None, Opinions]:
        """Return the listener's current session, None if there is none, and what the listener likes and dislikes."""
        asked = self._batcher.run(_SESSION, gateway_session(self._prefix, user))
        session, opinions = await asyncio.gather(asked, self.opinions(user))
        return None if session is None else session.decode(), opinions

    async def opinions(self, user: int) -> Opinions:
        """Return what the listener likes and dislikes."""
        return opinions_of(await self.said(user))

    async def said(self, user: int) -> list[Said]:
        """Return what the listener said last of each track, likes and dislikes that were withdrawn included."""
        opinions = partition_key(feedback_of(self._namespace()), partition_of(user, self._partitions), OPINIONS)
        return read_said(await self._batcher.run(_FIELD, opinions, user))

    async def slates(self, user: int) -> list[bytes]:
        """Return the slates last shown, the newest first."""
        found: list[bytes] = await self._batcher.run(_ALL_SLATES, gateway_slates(self._prefix, user))
        return found

    async def put_slate(self, user: int, slate: bytes) -> None:
        """Store a slate."""
        await self._batcher.run(_PUT_SLATE, gateway_slates(self._prefix, user), slate, SLATES, GAP_MS)

    async def number_of(self, external_id: str, lowest: int) -> int:
        """Return the number of a new item, at least `lowest`; the same for the same id, at every gateway."""
        return int(await self._batcher.run(self._number, gateway_items(self._prefix), external_id, lowest))

    async def erase(self, user: int) -> None:
        """Forget what the gateways keep of the listener, that of earlier versions included."""
        for key in (gateway_session, gateway_slates, gateway_feedback):
            await self._batcher.run(_DELETE, key(self._prefix, user))


def opinions_of(said: list[Said]) -> Opinions:
    """Return opinions from (time, track, kind).

    Examples
    --------
    >>> opinions_of([(2, 7, "like"), (1, 8, "like"), (3, 9, "dislike"), (4, 5, "unlike")])
    Opinions(liked=[8, 7], disliked=[9])
    """
    ordered = sorted(said)
    liked = [track for _, track, kind in ordered if kind == "like"]
    return Opinions(liked, [track for _, track, kind in ordered if kind == "dislike"])
