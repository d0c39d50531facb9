"""Where each listener's session is, for all gateways together.

Clients of Botify's API say neither session nor position, and a balancer may send each of their requests to another
gateway. So a session is a small record in Redis: its id, how many listens it has, and the last recommendation, which
the next listen names as what led to it. The derived state of the worker would not do: it follows the topic by some
milliseconds, in which a second request would take the same position.

The record knows the last call as well, so that a client's retry counts once. A client comes again after a 503, which
says that the listen may not be in the topic; it may be there all the same. The retry takes the place of the first try
and the id of its listen, and the worker drops the copy. What is a retry?

- Where the client gives a key (`Idempotency-Key`): the same key with the same listen, answered or not. One that was
  answered gets its answer again, and nothing is told.
- Otherwise: the same track, heard as long, before the last call was answered. A listener hears a track a second time
  when they were given an answer to the first; until then there is nothing they could have gone on with. So a genuine
  repeat counts twice. Without a key, so does the retry of a client that lost an answer of ours: the two look alike.
- Any other call: the client has given up on the last one.

A session that ended is kept for `ENDED_MS`, for the retry of its last call.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from services.gateway.batching import Batching
from services.gateway.messages import Place, Said
from streams.folds.sessions import GAP_MS
from streams.store.keys import gateway_session

ENDED_MS = 60_000

_HERE = Path(__file__).parent


class Sessions(Protocol):
    """Gives each listen its place; one writer at a time for each listener."""

    async def take(self, user: int, said: Said) -> Place:
        """Return the next place in the listener's session, or the first of a new one, which is called as its listen.

        A retry's place is that of the first try.
        """

    async def remember(self, user: int, event_id: str, led_by: bytes = b"") -> None:
        """Take in that the listener's last call was answered, with a recommendation where there is one."""


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

    async def take(self, user: int, said: Said) -> Place:
        """See `Sessions.take`."""
        told = (said.event_id, said.text, int(said.keyed), int(said.ends), GAP_MS, ENDED_MS)
        session_id, position, led_by, event_id, answered = await self._batching.run(
            self._take_place, gateway_session(self._prefix, user), *told
        )
        return Place(session_id.decode(), position, led_by, event_id.decode(), bool(answered))

    async def remember(self, user: int, event_id: str, led_by: bytes = b"") -> None:
        """See `Sessions.remember`."""
        await self._batching.run(self._remember, gateway_session(self._prefix, user), event_id, led_by)
