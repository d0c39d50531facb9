"""What the gateways keep of each listener beside the session: the slates last shown, and likes and dislikes.

Likes and dislikes are facts on the topic `feedback`. Redis has the newest of each listener and track, which is a
function of the topic: a copy changes nothing, and neither does another order.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Protocol

from schemas.events import Feedback
from services.gateway.sessions import ScriptBatcher
from streams.folds.sessions import GAP_MS
from streams.store.keys import gateway_feedback, gateway_items, gateway_session, gateway_slates

SLATES = 4
"""Slates of a listener to which a listen is attributed."""

_HERE = Path(__file__).parent
_SESSION_AND_OPINIONS = (
    "local session = redis.call('HMGET', KEYS[1], 'id', 'ended') "
    "return {not session[2] and session[1], redis.call('HGETALL', KEYS[2])}"
)
_ALL_FIELDS = "return redis.call('HGETALL', KEYS[1])"
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


Said = tuple[int, int, str]
"""What a listener said of a track last: event time in ms, track and kind."""


class ListenerStore(Protocol):
    """See `RedisListenerStore`."""

    async def session_and_opinions(self, user: int) -> tuple[str | None, Opinions]: ...  # noqa: D102
    async def opinions(self, user: int) -> Opinions: ...  # noqa: D102
    async def said(self, user: int) -> list[Said]: ...  # noqa: D102
    async def give(self, feedback: Feedback) -> None: ...  # noqa: D102
    async def slates(self, user: int) -> list[bytes]: ...  # noqa: D102
    async def put_slate(self, user: int, slate: bytes) -> None: ...  # noqa: D102
    async def number_of(self, external_id: str, lowest: int) -> int: ...  # noqa: D102
    async def erase(self, user: int) -> None: ...  # noqa: D102


class RedisListenerStore:
    """In Redis or Redis Cluster, one script call for each operation; raises `UnavailableError` without an answer."""

    def __init__(self, batcher: ScriptBatcher, prefix: str) -> None:
        self._batcher = batcher
        self._prefix = prefix
        self._merge = (_HERE / "merge_feedback.lua").read_text(encoding="utf-8")
        self._number = (_HERE / "number_item.lua").read_text(encoding="utf-8")

    async def session_and_opinions(self, user: int) -> tuple[str | None, Opinions]:
        """Return the listener's current session, None if there is none, and what the listener likes and dislikes."""
        keys = gateway_session(self._prefix, user), gateway_feedback(self._prefix, user)
        session, fields = await self._batcher.run(_SESSION_AND_OPINIONS, keys)
        return None if session is None else session.decode(), opinions_of(_said_in(fields))

    async def opinions(self, user: int) -> Opinions:
        """Return what the listener likes and dislikes."""
        return opinions_of(await self.said(user))

    async def said(self, user: int) -> list[Said]:
        """Return what the listener said last of each track, likes and dislikes that were withdrawn included."""
        return _said_in(await self._batcher.run(_ALL_FIELDS, gateway_feedback(self._prefix, user)))

    async def give(self, feedback: Feedback) -> None:
        """Store what a listener said, unless something newer is known."""
        key = gateway_feedback(self._prefix, feedback.user)
        await self._batcher.run(self._merge, key, feedback.track, feedback.kind, feedback.timestamp_ms)

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
        """Forget the listener."""
        for key in (gateway_session, gateway_slates, gateway_feedback):
            await self._batcher.run(_DELETE, key(self._prefix, user))


def _said_in(fields: list[bytes]) -> list[Said]:
    """Read a hash's fields and values."""
    said = []
    for track, value in zip(fields[::2], fields[1::2], strict=True):
        time_ms, kind = value.split(b" ", 1)
        said.append((int(time_ms), int(track), kind.decode()))
    return said


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
