"""Where each listener's session is, for all gateways together.

Clients of Botify's API say neither session nor position, and a balancer may send each of their requests to another
gateway. So a session is a small record in Redis: its id, how many listens it has, and the last recommendation, which
the next listen names as what led to it. The derived state of the worker would not do: it follows the topic by some
milliseconds, in which a second request would take the same position.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from services.gateway.batching import Batching
from services.gateway.messages import Place
from streams.folds.sessions import GAP_MS
from streams.store.keys import gateway_session

_HERE = Path(__file__).parent


class Sessions(Protocol):
    """Gives each listen its place; one writer at a time for each listener."""

    async def take(self, user: int, new_id: str, *, ends: bool) -> Place:
        """Return the next place in the listener's session, or the first of a new one.

        Parameters
        ----------
        user : int
        new_id : str
            What the session is called if the listener has none, or was silent for the gap.
        ends : bool
            Whether the listener goes away after this listen.
        """

    async def remember(self, user: int, session_id: str, led_by: bytes) -> None:
        """Keep a recommendation for the next listen of the session, if that still goes on."""


class RedisSessions:
    """Sessions in Redis or Redis Cluster, one script call each way; a session expires by itself after the gap.

    Raises `UnavailableError` where Redis does not answer. If Redis loses a record, the listener begins a new session.

    Parameters
    ----------
    batching : Batching
    prefix : str
        `topic_prefix` of the settings.
    """

    def __init__(self, batching: Batching, prefix: str) -> None:
        self._batching = batching
        self._prefix = prefix
        self._take_place = (_HERE / "take_place.lua").read_text(encoding="utf-8")
        self._remember = (_HERE / "remember.lua").read_text(encoding="utf-8")

    async def take(self, user: int, new_id: str, *, ends: bool) -> Place:
        """See `Sessions.take`."""
        session_id, position, led_by = await self._batching.run(
            self._take_place, gateway_session(self._prefix, user), new_id, GAP_MS, int(ends)
        )
        return Place(session_id.decode(), position, led_by)

    async def remember(self, user: int, session_id: str, led_by: bytes) -> None:
        """See `Sessions.remember`."""
        await self._batching.run(self._remember, gateway_session(self._prefix, user), session_id, led_by)
