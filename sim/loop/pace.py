"""When a listen is due: as soon as its turn comes in event time, tied to the wall clock, or at an offered rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

LOOKAHEAD_MS = 10 * 60 * 1000
"""How far a listener may run ahead of the one who is furthest behind: well below the sessions' gap of 30 minutes."""
_MOST_WAIT_S = 0.1
_SLACK_S = 0.25
"""How much of an offered load may be made up for after a stall."""


class Due(NamedTuple):
    """What may be finished now: event time until which, at most how many, and when to look again."""

    until_ms: int
    most: int | None
    wait_s: float


class Pace(Protocol):
    """The one clock of a population."""

    def due(self, now_s: float, earliest_ms: int, next_ms: int | None) -> Due:
        """Say what may be finished.

        Parameters
        ----------
        now_s : float
            Wall clock, seconds since the run began.
        earliest_ms : int
            Event time of the listener who is furthest behind.
        next_ms : int | None
            Event time at which the next listen is finished, where any listener is at one.
        """
        ...

    def spend(self, requests: int) -> None:
        """Learn how many requests were made."""
        ...


class FullSpeed:
    """As fast as it goes, nobody further ahead than the lookahead.

    Examples
    --------
    >>> FullSpeed().due(0.0, 1_000, 1_000).until_ms
    601000
    """

    def due(self, now_s: float, earliest_ms: int, next_ms: int | None) -> Due:
        """Allow all within the lookahead."""
        return Due(earliest_ms + LOOKAHEAD_MS, None, _MOST_WAIT_S)

    def spend(self, requests: int) -> None:
        """Nothing to count."""


@dataclass(slots=True)
class WallClock:
    """Event time is wall time multiplied, counted from one beginning, so it cannot drift.

    Examples
    --------
    >>> WallClock(start_ms=0, speed=60.0).due(2.0, 0, 120_000)
    Due(until_ms=120000, most=None, wait_s=0.0)
    """

    start_ms: int
    speed: float

    def due(self, now_s: float, earliest_ms: int, next_ms: int | None) -> Due:
        """Allow what the clock has passed."""
        until_ms = self.start_ms + int(now_s * 1000 * self.speed)
        wait_s = _MOST_WAIT_S if next_ms is None else (next_ms - until_ms) / (1000 * self.speed)
        return Due(until_ms, None, min(max(wait_s, 0.0), _MOST_WAIT_S))

    def spend(self, requests: int) -> None:
        """Nothing to count."""


@dataclass(slots=True)
class OfferedRate:
    """So many requests a second, in order of event time, whether or not earlier ones were answered.

    Examples
    --------
    >>> pace = OfferedRate(rate=100.0)
    >>> pace.due(0.05, 0, 0).most
    5
    >>> pace.spend(5)
    >>> pace.due(0.05, 0, 0).most
    0
    """

    rate: float
    spent: float = 0.0

    def due(self, now_s: float, earliest_ms: int, next_ms: int | None) -> Due:
        """Allow what the rate has earned."""
        earned = now_s * self.rate
        self.spent = max(self.spent, earned - _SLACK_S * self.rate - 1)
        credit = int(earned - self.spent)
        wait_s = 0.0 if credit else (self.spent + 1 - earned) / self.rate
        return Due(2**62, credit, min(wait_s, _MOST_WAIT_S))

    def spend(self, requests: int) -> None:
        """Take the requests from what was earned."""
        self.spent += requests
