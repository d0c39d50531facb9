"""Listeners' names and numbers at a gateway; `streams/names.py` has the rules, and numbers many names at once."""

from __future__ import annotations

import time

from botify.core.kafka.config import key_of
from botify.schemas.codec import Codec
from botify.schemas.external_ids import UserIds, chosen
from botify.services.gateway.rpc import RpcClient
from botify.services.gateway.sessions import ListenerStore
from botify.services.gateway.state import EventClock
from botify.streams.names import fact_of

KEPT_S = 60.0  # an erasure at another gateway forgets the name; later the fact is published again
MOST_KEPT = 50_000  # names of at most 200 characters, so at most 50 MB


Resolved = tuple[int, dict[int, str | None]]


class ListenerNames:
    """Resolves names, in the event loop's thread; raises `UserIdError`, and `UnavailableError` without Redis."""

    def __init__(
        self, users: UserIds, listeners: ListenerStore, rpc: RpcClient, clock: EventClock, topic: str, codec: Codec
    ) -> None:
        self._users, self._listeners = users, listeners
        self._rpc, self._clock, self._topic, self._encode = rpc, clock, topic, codec.encode
        self._kept: dict[str, tuple[int, float]] = {}  # name -> number, and until when on the monotonic clock

    async def find(self, name: str) -> int:
        """Return the number of a name, or the one that it would get."""
        return (await self.resolve(name))[0]

    async def number_of(self, name: str, request_id: str, resolved: Resolved | None = None) -> int:
        """Return the number of a name, which is its own from now on; raises `UnavailableError` without a broker.

        `resolved` is what `resolve` has returned for it, if that was just now.
        """
        number, owners = resolved or await self.resolve(name)
        if not owners:
            return number
        while owners[number] is None:
            owners[number] = await self._listeners.claim(number, name)
            if owners[number] == name:
                fact = self._encode(fact_of(name, number, self._clock.now_ms(number)))
                await self._rpc.publish(f"{request_id}:{number}", self._topic, key_of(number), fact)
            number = chosen(name, owners)
        if len(self._kept) >= MOST_KEPT:
            self._kept.clear()
        self._kept[name] = number, time.monotonic() + KEPT_S
        return number

    def forget(self, name: str) -> None:
        """Forget a name: its listener is erased."""
        self._kept.pop(name, None)

    async def resolve(self, name: str) -> Resolved:
        """Return the number of a name, and who has its candidates: nobody is named where the number is its own."""
        # first: candidates are hashes, and most calls are of few names
        number, until_s = self._kept.get(name, (0, 0.0))
        if time.monotonic() < until_s:
            return number, {}
        candidates = self._users.candidates(name)
        if len(candidates) == 1:
            return candidates[0], {}
        owners = dict(zip(candidates, await self._listeners.names(candidates), strict=True))
        return chosen(name, owners), owners
