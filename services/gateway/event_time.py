"""The time at which listens at the gateway happen."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from schemas.clients import partition_of
from schemas.event_time import LEAD_MS, event_time_of


class EventClock:
    """The wall clock, or, for listeners whose partition's event time is ahead of it, that time advancing with it.

    A simulation at full speed leaves listens of the future behind. A listen of now would come late for all that
    decays or expires by event time. Each partition is followed on its own, and no further than the service as a whole
    has come (`event_time_of`), so a partition whose time is wrong moves the clock of no other.

    Parameters
    ----------
    partitions : int
        Of the listens topic.
    wall_s : callable
        Seconds since the epoch.

    Examples
    --------
    >>> now = [1_000.0]
    >>> clock = EventClock(partitions=1, wall_s=lambda: now[0])
    >>> clock.now_ms(42)
    1000000
    >>> clock.follow({0: 5_000_000})  # the topic is an hour ahead
    >>> now[0] += 1.0
    >>> clock.now_ms(42)
    5001000
    >>> clock.follow({0: 900_000})  # another namespace was made the live one, whose time is not
    >>> clock.now_ms(42)
    1001000
    """

    def __init__(self, partitions: int, wall_s: Callable[[], float] = time.time) -> None:
        self._partitions = partitions
        self._wall_s = wall_s
        self._seen_ms: dict[int, int] = {}
        self._ahead_ms: dict[int, int] = {}

    def now_ms(self, user: int) -> int:
        """Return the event time of what a listener does now."""
        return self._wall_ms() + self._ahead_of(user)

    def is_simulated(self, user: int) -> bool:
        """Say whether that time is too far from the wall clock to pass for it."""
        return self._ahead_of(user) > LEAD_MS // 2

    def follow(self, event_times: Mapping[int, int]) -> None:
        """Take in the event time of each partition that was listened to, as of now."""
        service_ms = event_time_of(list(event_times.values()))
        for partition, event_ms in event_times.items():
            reached_ms = min(event_ms, service_ms)
            ahead_ms = max(0, reached_ms - self._wall_ms())
            if reached_ms >= self._seen_ms.get(partition, 0):
                ahead_ms = max(ahead_ms, self._ahead_ms.get(partition, 0))
            self._seen_ms[partition], self._ahead_ms[partition] = reached_ms, ahead_ms
        for partition in self._seen_ms.keys() - event_times.keys():
            del self._seen_ms[partition], self._ahead_ms[partition]

    def _ahead_of(self, user: int) -> int:
        return self._ahead_ms.get(partition_of(user, self._partitions), 0)

    def _wall_ms(self) -> int:
        return int(self._wall_s() * 1000)
