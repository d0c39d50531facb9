"""What the gateway knows of the derived state: what is popular, and how far event time is."""

from __future__ import annotations

import time
from collections.abc import Callable

from services.gateway.event_time import EventClock
from streams.read import StateReader
from streams.store.connect import REDIS_ERRORS

HALF_LIFE = "1d"
TOP = 100
POPULAR_EVERY_S = 5.0
"""Merging the tops of all partitions is most of what a gateway does when nobody asks; they change slowly."""


class LiveState:
    """Read in the background, so that a request that needs it never waits for Redis.

    Parameters
    ----------
    reader : StateReader
        Blocking; `refresh` belongs in a thread.
    clock : EventClock
    refused_writes : callable
        Returns why Redis refuses writes, None where it takes them; blocking. Sessions are written with every request.

    Attributes
    ----------
    popular : list of int
        The most popular tracks, best first; empty before the first listen.
    problem : str | None
        Why the last look failed, or Redis refuses writes.
    """

    def __init__(
        self, reader: StateReader, clock: EventClock, refused_writes: Callable[[], str | None] = lambda: None
    ) -> None:
        self._reader = reader
        self._clock = clock
        self._refused_writes = refused_writes
        self.popular: list[int] = []
        self.problem: str | None = None
        self._popular_due_s = 0.0

    def refresh(self) -> None:
        """Look again; what was read last stays where Redis does not answer."""
        try:
            self._clock.follow(self._reader.event_times())
            if not self.popular or time.monotonic() >= self._popular_due_s:
                tracks, _ = self._reader.top_tracks(HALF_LIFE, TOP)
                self.popular = tracks.tolist()
                self._popular_due_s = time.monotonic() + POPULAR_EVERY_S
            self.problem = self._refused_writes()
        except REDIS_ERRORS as error:
            self.problem = f"Redis does not answer ({type(error).__name__})"
