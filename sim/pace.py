"""When a listen is due: as soon as its turn comes in event time, tied to the wall clock, or at an offered rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

LOOKAHEAD_MS = 10 * 60 * 1000
"""How far a listener may run ahead of the one who is furthest behind: well below the sessions' gap of 30 minutes."""
_LEAST_WAIT_S, _MOST_WAIT_S = 0.002, 0.1
"""Shorter waits than a few milliseconds would make the loop spin; longer ones make it slow to stop."""
_TICK_S = 0.004
"""An offered load is made in ticks; to wake for every single request would cost more than to make it."""
_SLACK_S = 0.25
"""How much of an offered load may be made up for after a stall."""


class Due(NamedTuple):
    """What may be finished now.

    Attributes
    ----------
    until_ms : int
        Event time until which.
    most : int | None
        How many at most.
    wait_s : float | None
        How long to wait for answers before looking again; None for as long as any are awaited.
    """

    until_ms: int
    most: int | None
    wait_s: float | None


class Clocks(Protocol):
    """What a pace needs to know of a simulation."""

    def earliest_ms(self) -> int:
        """Return the event time of the listener who is furthest behind."""
        ...

    def next_ms(self) -> int | None:
        """Return the event time at which the next listen is finished, where any listener is at one."""
        ...


class Pace(Protocol):
    """The one clock of a population."""

    def due(self, now_s: float, clocks: Clocks) -> Due:
        """Say what may be finished, `now_s` seconds after the run began."""
        ...

    def spend(self, requests: int) -> None:
        """Learn how many requests were made."""
        ...


class FullSpeed:
    """As fast as it goes, nobody further ahead than the lookahead."""

    def due(self, now_s: float, clocks: Clocks) -> Due:
        """Allow all within the lookahead."""
        return Due(clocks.earliest_ms() + LOOKAHEAD_MS, None, None)

    def spend(self, requests: int) -> None:
        """Nothing to count."""


@dataclass(slots=True)
class WallClock:
    """Event time is wall time multiplied, counted from one beginning, so it cannot drift."""

    start_ms: int
    speed: float

    def due(self, now_s: float, clocks: Clocks) -> Due:
        """Allow what the clock has passed."""
        until_ms = self.start_ms + int(now_s * 1000 * self.speed)
        next_ms = clocks.next_ms()
        wait_s = _MOST_WAIT_S if next_ms is None else (next_ms - until_ms) / (1000 * self.speed)
        return Due(until_ms, None, min(max(wait_s, _LEAST_WAIT_S), _MOST_WAIT_S))

    def spend(self, requests: int) -> None:
        """Nothing to count."""


@dataclass(slots=True)
class OfferedRate:
    """So many requests a second, in order of event time, whether or not earlier ones were answered."""

    rate: float
    spent: float = 0.0

    def due(self, now_s: float, clocks: Clocks) -> Due:
        """Allow what the rate has earned, once that is worth a tick."""
        earned = now_s * self.rate
        self.spent = max(self.spent, earned - max(1.0, _SLACK_S * self.rate))
        tick = max(1.0, _TICK_S * self.rate)
        credit = earned - self.spent
        most, wait_s = (int(credit), _TICK_S) if credit >= tick else (0, (tick - credit) / self.rate)
        return Due(2**62, most, min(max(wait_s, _LEAST_WAIT_S), _MOST_WAIT_S))

    def spend(self, requests: int) -> None:
        """Take the requests from what was earned."""
        self.spent += requests
