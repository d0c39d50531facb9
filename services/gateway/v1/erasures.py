"""Erasures: what blocks of them, and where each stands, in Redis, so that every gateway can say it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from botify.core.errors import BotifyError
from botify.services.gateway.v1.models import ErasureStatus
from botify.streams.store.keys import gateway_erasure

KEPT_MS = 24 * 60 * 60 * 1000
"""How long it is known that a listener was erased."""

EraseListener = Callable[[int, Callable[[], bool]], int]
"""`botify.streams.dlq.erase.erase_listener`, with the listener and what says whether there may be listens."""


class Erasures:
    """Erases listeners, one in each thread that asks. At least once: what was interrupted is to be asked for again.

    Parameters
    ----------
    redis : redis.Redis or RedisCluster
        Blocking, with raw replies.
    knows : callable
        Says whether the state has a listener.
    """

    def __init__(self, redis: Any, prefix: str, knows: Callable[[int], bool], erase_listener: EraseListener) -> None:
        self._redis, self._prefix, self._knows, self._erase_listener = redis, prefix, knows, erase_listener

    def erase(self, user: int) -> int:
        """Erase a listener, and return the number of listens; raises as `erase_listener`."""
        before, look = self.status(user), False

        def may_have_listens() -> bool:
            nonlocal look
            # an erasure that was not completed may have taken the state, and not yet all listens
            look = self._knows(user) if before is None or before.status == "done" else True
            return look

        self._put(user, None, status="running")
        try:
            listens = self._erase_listener(user, may_have_listens)
        except BotifyError as error:
            self._put(user, None, status="failed", detail=str(error))
            raise
        if before is not None and not look:  # these were not counted again
            listens += before.listens or 0
        self._put(user, KEPT_MS, status="done", listens=listens)
        return listens

    def status(self, user: int) -> ErasureStatus | None:
        """Return where the last erasure of a listener stands; None if there was none for a day."""
        found = self._redis.get(gateway_erasure(self._prefix, user))
        return None if found is None else ErasureStatus(user=user, **json.loads(found))

    def _put(self, user: int, kept_ms: int | None, **status: Any) -> None:
        text = json.dumps({**status, "since_ms": int(time.time() * 1000)})
        self._redis.set(gateway_erasure(self._prefix, user), text, px=kept_ms)
