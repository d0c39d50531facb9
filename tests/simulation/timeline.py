"""The time of a universe: a busy minute, which a lull of minutes or hours may part.

Plans and topics are made in busy seconds, without the lull. In a lull nothing is published and no fault begins. Once
`AWAKE_S` of it are over, what polls regularly outside the shipped code, such as heartbeats, sleeps to its end: an hour
of them takes as long to run as all the rest.
"""

from random import Random
from typing import NamedTuple

LULL_FROM_S, LULL_UNTIL_S = 5.0, 55.0
"""When a lull begins, in busy seconds."""
AWAKE_S = 45.0
"""Faults are over, and processes have started again, within this time of a lull."""
LEAST_CHECK_S, MOST_CHECK_S, CHECKS = 4.0, 60.0, 12
"""Seconds between two checks, and about how many of them a lull has."""
LULLS_S = [(0.0, 0.0)] * 10 + [(300.0, 900.0)] * 4 + [(1_800.0, 3_600.0), (3_600.0, 7_200.0)]
"""Least and longest lull of the timelines, in turn: five of eight have none."""


class Timeline(NamedTuple):
    """When the lull begins, and how long it is.

    Examples
    --------
    >>> timeline = Timeline(10.0, 600.0)
    >>> timeline.at(9.0), timeline.at(12.0)
    (9.0, 612.0)
    >>> timeline.pause_s(45.0, 3.0), timeline.pause_s(54.0, 3.0)
    (3.0, 556.0)
    >>> timeline.awake(55.0), timeline.awake(400.0), timeline.awake(611.0)
    (55.0, 55.0, 56.0)
    """

    lull_at_s: float
    lull_s: float

    def at(self, busy_s: float) -> float:
        return busy_s + self.lull_s if busy_s > self.lull_at_s else busy_s

    def awake(self, now_s: float) -> float:
        """Return a virtual time without what `pause_s` has slept through: the clock of session timeouts."""
        return now_s - min(max(0.0, now_s - self.lull_at_s - AWAKE_S), max(0.0, self.lull_s - AWAKE_S))

    def pause_s(self, now_s: float, every_s: float, awake_s: float = AWAKE_S) -> float:
        """Return how long to sleep before polling again: `every_s`, or until the lull ends."""
        end_s = self.lull_at_s + self.lull_s
        return end_s - now_s if self.lull_at_s + awake_s < now_s + every_s < end_s else every_s

    @property
    def check_s(self) -> float:
        """How often the shipped code, which does not know of lulls, looks whether something has changed."""
        return min(MOST_CHECK_S, max(LEAST_CHECK_S, self.lull_s / CHECKS))


def timeline(number: int) -> Timeline:
    rng = Random(f"timeline {number}")
    return Timeline(rng.uniform(LULL_FROM_S, LULL_UNTIL_S), rng.uniform(*LULLS_S[number % len(LULLS_S)]))
