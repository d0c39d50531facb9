"""Who listens when: each slot takes one listener after another, or keeps one who comes and goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from core.keyed_random import mix, uniform
from sim.errors import SimulationError
from sim.listeners.model import ACTIVITY, RETURN, Floats, Ints

PAUSE_MS = 60_000
"""How long a slot stays empty between two listeners."""
NOBODY = -1


class Arrivals(NamedTuple):
    """Sessions that begin, one row for each slot asked for.

    Attributes
    ----------
    users : ndarray of int64
        `NOBODY` where the slot stays empty for good.
    ordinals : ndarray of int64
        How many sessions the listener had before.
    start_ms : ndarray of int64
        Event time.
    """

    users: Ints
    ordinals: Ints
    start_ms: Ints


class Schedule(Protocol):
    """Which session comes next on a slot: a pure function of the slot, its turn and when the last session ended."""

    @property
    def slots(self) -> int:
        """How many sessions there can be at a time."""
        ...

    def arrivals(self, slots: Ints, turns: Ints, after_ms: Ints) -> Arrivals:
        """Return the session that begins on each slot for the `turns`-th time, the last having ended at `after_ms`."""
        ...


@dataclass(frozen=True, slots=True)
class Shard:
    """A part of the listeners, for simulators that share the work.

    Examples
    --------
    >>> Shard.parse("1/4")
    Shard(index=1, count=4)
    """

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read `index/count`, counted from 0.

        Raises
        ------
        SimulationError
            It is not that, or the index is not below the count.
        """
        index, slash, count = text.partition("/")
        if not (slash and index.isdecimal() and count.isdecimal() and int(index) < int(count)):
            raise SimulationError(f"shard {text!r} is not index/count with an index from 0, such as 0/4")
        return cls(int(index), int(count))

    def of(self, slots: int) -> Ints:
        """Return the numbers of this shard's slots."""
        return np.arange(self.index, slots, self.count)


ALL = Shard()


class RelaySchedule:
    """Seats that are hardly ever empty: the next listener sits down when one has gone away.

    The listeners are dealt to the slots once; each slot takes its own in turn, round after round, so who comes next
    never depends on what happens on other slots.

    Parameters
    ----------
    users : ndarray of int
        The listeners, in the order in which they are dealt.
    slots : int
        At most as many as there are listeners.
    sessions : int, optional
        How many sessions there are in all; without it there is no end.
    start_ms : int
        Event time at which the first listeners sit down; each slot begins up to `spread_ms` later.
    spread_ms : int
    shard : Shard

    Examples
    --------
    >>> schedule = RelaySchedule(np.array([5, 6, 7]), slots=2, sessions=4, start_ms=0)
    >>> schedule.arrivals(np.array([0, 0]), np.array([1, 2]), np.array([0, 0])).users.tolist()
    [7, 5]
    """

    def __init__(
        self,
        users: NDArray[np.integer],
        slots: int,
        *,
        sessions: int | None = None,
        start_ms: int = 0,
        spread_ms: int = 0,
        shard: Shard = ALL,
    ) -> None:
        self._users = users.astype(np.int64)
        self._all_slots = min(slots, len(users))
        self._own = shard.of(self._all_slots)
        self._sessions = sessions
        self._start_ms = start_ms
        self._spread_ms = spread_ms

    @property
    def slots(self) -> int:
        """How many slots this shard has."""
        return len(self._own)

    def arrivals(self, slots: Ints, turns: Ints, after_ms: Ints) -> Arrivals:
        """Deal the next listener of each slot."""
        slot = self._own[slots]
        listeners_of_slot = (len(self._users) - 1 - slot) // self._all_slots + 1
        rounds, place = turns // listeners_of_slot, turns % listeners_of_slot
        rank = slot + place * self._all_slots
        users = self._users[rank]
        if self._sessions is not None:
            users = np.where(rounds * len(self._users) + rank < self._sessions, users, NOBODY)
        first = self._start_ms + slot * self._spread_ms // self._all_slots
        return Arrivals(users, rounds, np.where(turns == 0, first, after_ms + PAUSE_MS))


DAY_MS = 24 * 60 * 60 * 1000
SESSIONS_PER_DAY = 1.0
"""Of a listener, on average; the listeners' own rates are uniform between a quarter and seven quarters of it."""
HOURLY = (3, 2, 1, 1, 1, 2, 4, 7, 9, 8, 7, 7, 8, 8, 7, 7, 8, 10, 11, 11, 10, 9, 7, 5)
"""How busy each hour of the day (UTC) is: quiet at night, a peak on the way to work and a higher one in the evening."""

_EDGES = np.linspace(0.0, 1.0, len(HOURLY) + 1)
_CUMULATIVE = np.concatenate([[0.0], np.cumsum(HOURLY) / np.sum(HOURLY)])


class DailySchedule:
    """Every listener has a slot and sits down there at times of a Poisson process that follows the daily rhythm.

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
    >>> slots, turns = np.arange(3), np.zeros(3, dtype=np.int64)
    >>> bool((schedule.arrivals(slots, turns, turns).start_ms > 0).all())
    True
    """

    def __init__(
        self, users: NDArray[np.integer], *, seed: int, start_ms: int, days: float, shard: Shard = ALL
    ) -> None:
        self._users = users[shard.of(len(users))].astype(np.int64)
        self._seed = seed
        self._start_ms = start_ms
        self._end_ms = start_ms + int(days * DAY_MS)
        self._rates = SESSIONS_PER_DAY * (0.25 + 1.5 * uniform(mix(seed, self._users), ACTIVITY))

    @property
    def slots(self) -> int:
        """How many listeners this shard has."""
        return len(self._users)

    def arrivals(self, slots: Ints, turns: Ints, after_ms: Ints) -> Arrivals:
        """Return when the listener of each slot comes (again)."""
        users = self._users[slots]
        waits = -np.log1p(-uniform(mix(self._seed, users, turns), RETURN)) / self._rates[slots]
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
