"""The time that listens at the gateway happen at."""

from __future__ import annotations

import time
from collections.abc import Callable


class EventClock:
    """The wall clock, or, where event time is ahead of it, event time going on at the wall clock's pace.

    A simulation at full speed leaves listens of the future behind. A listen of now would come late for all that
    decays or expires by event time.

    Parameters
    ----------
    wall_s : callable
        Seconds since the epoch.

    Examples
    --------
    >>> now = [1_000.0]
    >>> clock = EventClock(lambda: now[0])
    >>> clock.now_ms()
    1000000
    >>> clock.catch_up(5_000_000)  # the topic is an hour ahead
    >>> now[0] += 1.0
    >>> clock.now_ms()
    5001000
    """

    def __init__(self, wall_s: Callable[[], float] = time.time) -> None:
        self._wall_s = wall_s
        self._ahead_ms = 0

    def now_ms(self) -> int:
        """Return the event time of what happens now."""
        return self._wall_ms() + self._ahead_ms

    def catch_up(self, event_time_ms: int) -> None:
        """Take in the highest event time that was met."""
        self._ahead_ms = max(self._ahead_ms, event_time_ms - self._wall_ms())

    def _wall_ms(self) -> int:
        return int(self._wall_s() * 1000)
