"""Listeners who come and go by the hour of the day, and return on later days."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from schemas.keyed_random import mix, uniform
from sim.listeners import draws
from sim.listeners.model import Floats, Ints
from sim.schedule import ALL, NOBODY, Arrivals, Shard

DAY_MS = 24 * 60 * 60 * 1000
SESSIONS_PER_DAY = 1.0
"""Of a listener, on average; the listeners' own rates are uniform between a quarter and seven quarters of it."""
_HOURLY = (3, 2, 1, 1, 1, 2, 4, 7, 9, 8, 7, 7, 8, 8, 7, 7, 8, 10, 11, 11, 10, 9, 7, 5)
"""How busy each hour of the day (UTC) is: quiet at night, a peak on the way to work and a higher one in the evening."""

_EDGES = np.linspace(0.0, 1.0, len(_HOURLY) + 1)
_CUMULATIVE = np.concatenate([[0.0], np.cumsum(_HOURLY) / np.sum(_HOURLY)])


class DailySchedule:
    """Every listener has a seat and sits down there at times of a Poisson process that follows the daily rhythm.

    With Λ(t) the time that has passed in a rhythm where every hour is equally busy, the next session after `t` begins
    at ``Λ⁻¹(Λ(t) + E / rate)``, E exponential: the time change that makes a uniform Poisson process an inhomogeneous
    one (Çinlar, "Introduction to Stochastic Processes", 1975). Every time is computed from the one clock, so there is
    nothing that drifts.

    Parameters
    ----------
    users : ndarray of int
    seed : int
    start_ms : int
        Event time of the beginning.
    days : float
        Sessions that would begin later than so many days after that are none.
    shard : Shard

    Examples
    --------
    >>> schedule = DailySchedule(np.arange(3), seed=7, start_ms=0, days=30.0)
    >>> seats, turns = np.arange(3), np.zeros(3, dtype=np.int64)
    >>> bool((schedule.arrivals(seats, turns, turns).start_ms > 0).all())
    True
    """

    def __init__(
        self, users: NDArray[np.integer], *, seed: int, start_ms: int, days: float, shard: Shard = ALL
    ) -> None:
        self._users = users[shard.of(len(users))].astype(np.int64)
        self._seed = seed
        self._start_ms = start_ms
        self._end_ms = start_ms + int(days * DAY_MS)
        self._rates = SESSIONS_PER_DAY * (0.25 + 1.5 * uniform(mix(seed, self._users), draws.ACTIVITY))

    @property
    def seats(self) -> int:
        """How many listeners this shard has."""
        return len(self._users)

    def arrivals(self, seats: Ints, turns: Ints, after_ms: Ints) -> Arrivals:
        """Return when the listener of each seat comes (again)."""
        users = self._users[seats]
        waits = -np.log1p(-uniform(mix(self._seed, users, turns), draws.RETURN)) / self._rates[seats]
        after = busy_days(np.where(turns == 0, self._start_ms, after_ms))
        start_ms = time_ms(after + waits)
        return Arrivals(np.where(start_ms < self._end_ms, users, NOBODY), turns, start_ms)


def busy_days(times_ms: Ints) -> Floats:
    """Return Λ: whole days count one each, the hours of a day as busy as they are.

    Examples
    --------
    >>> busy_days(np.array([0, DAY_MS])).tolist()
    [0.0, 1.0]
    """
    whole, part = np.divmod(times_ms, DAY_MS)
    busy: Floats = whole + np.interp(part / DAY_MS, _EDGES, _CUMULATIVE)
    return busy


def time_ms(busy: Floats) -> Ints:
    """Return Λ⁻¹.

    Examples
    --------
    >>> time_ms(busy_days(np.array([5_000_000, DAY_MS * 20_000 + 1]))).tolist()
    [5000000, 1728000000001]
    """
    whole = np.floor(busy)
    part = np.interp(busy - whole, _CUMULATIVE, _EDGES)
    return whole.astype(np.int64) * DAY_MS + np.rint(part * DAY_MS).astype(np.int64)
