"""A schedule for environments: any listener, chosen by the environment's seed, sits down at once."""

from __future__ import annotations

import numpy as np

from schemas.keyed_random import integers, mix
from sim.listeners.model import Ints
from sim.schedule import Arrivals

PAUSE_MS = 60_000


class WalkInSchedule:
    """Every seat is taken by a listener drawn anew for each session, as Botify's environment does.

    Parameters
    ----------
    users : int
        How many listeners there are.
    seats : int
    seed : int

    Examples
    --------
    >>> schedule = WalkInSchedule(users=10, seats=1, seed=7)
    >>> arrivals = schedule.arrivals(np.array([0]), np.array([0]), np.array([0]))
    >>> bool(0 <= arrivals.users[0] < 10)
    True
    """

    def __init__(self, users: int, seats: int, seed: int) -> None:
        self.seats = seats
        self._users = users
        self._seed = seed

    def arrivals(self, seats: Ints, turns: Ints, after_ms: Ints) -> Arrivals:
        """Draw the next listener of each seat; a session's ordinal is unique over all seats."""
        ordinals = turns * self.seats + seats
        users = integers(mix(self._seed, ordinals), 0, np.int64(self._users))
        return Arrivals(users, ordinals, after_ms + PAUSE_MS)
