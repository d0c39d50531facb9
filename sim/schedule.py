"""Schedules: which listener starts a session on a slot, and when."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from botify.core.keyed_random import mix, uniform
from botify.sim import SimulationError
from botify.sim.listeners.model import ACTIVITY, RETURN, Floats, Ints

PAUSE_MS = 60_000  # time between two sessions of a slot
NO_USER = -1


class Arrivals(NamedTuple):
    """Sessions that start, one row for each slot."""

    users: Ints  # `NO_USER` for a slot without further sessions
    ordinals: Ints  # number of earlier sessions of the listener
    start_ms: Ints  # event time


class Schedule(Protocol):
    """The next session of a slot: a pure function of the slot, its turn and the end of its last session."""

    @property
    def slots(self) -> int:
        """Number of slots: sessions at the same time."""

    def arrivals(self, slots: Ints, turns: Ints, after_ms: Ints) -> Arrivals:
        """Return each slot's session number `turns`; the one before it ended at `after_ms`."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A part of the slots, for several processes that share a simulation."""

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Read `index/count`; raises SimulationError on another form or an index that is not below the count."""
        index, slash, count = text.partition("/")
        if not (slash and index.isdecimal() and count.isdecimal() and int(index) < int(count)):
            raise SimulationError(f"shard {text!r} must be index/count with an index from 0, such as 0/4")
        return cls(int(index), int(count))

    def of(self, slots: int) -> Ints:
        return np.arange(self.index, slots, self.count)


ALL = Shard()


class RelaySchedule:
    """Starts a session on a slot when the one before has ended.

    Each listener belongs to one slot, and each slot takes its listeners in turn, round after round, so its sessions do
    not depend on other slots. There are at most as many slots as listeners; the first session of a slot starts at
    `start_ms` in event time or up to `spread_ms` later.
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
        return len(self._own)

    def arrivals(self, slots: Ints, turns: Ints, after_ms: Ints) -> Arrivals:
        slot = self._own[slots]
        listeners_of_slot = (len(self._users) - 1 - slot) // self._all_slots + 1
        rounds, place = turns // listeners_of_slot, turns % listeners_of_slot
        rank = slot + place * self._all_slots
        users = self._users[rank]
        if self._sessions is not None:
            users = np.where(rounds * len(self._users) + rank < self._sessions, users, NO_USER)
        first = self._start_ms + slot * self._spread_ms // self._all_slots
        return Arrivals(users, rounds, np.where(turns == 0, first, after_ms + PAUSE_MS))


DAY_MS = 24 * 60 * 60 * 1000
SESSIONS_PER_DAY = 1.0  # mean over the listeners, whose rates are uniform between a quarter and seven quarters of it
HOURLY = (3, 2, 1, 1, 1, 2, 4, 7, 9, 8, 7, 7, 8, 8, 7, 7, 8, 10, 11, 11, 10, 9, 7, 5)
"""Relative rate of each hour of the day (UTC): low at night, with a morning peak and a higher evening peak."""

_EDGES = np.linspace(0.0, 1.0, len(HOURLY) + 1)
_CUMULATIVE = np.concatenate([[0.0], np.cumsum(HOURLY) / np.sum(HOURLY)])


class DailySchedule:
    """Gives each listener a slot, and sessions at times of a Poisson process whose rate follows the hours of the day.

    With Λ(t) the cumulative rate, the next session after `t` starts at ``Λ⁻¹(Λ(t) + E / rate)``, E exponential: the
    time change that turns a homogeneous Poisson process into an inhomogeneous one (Çinlar, "Introduction to Stochastic
    Processes", 1975). No session starts later than a number of `days` after the beginning.
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
        return len(self._users)

    def arrivals(self, slots: Ints, turns: Ints, after_ms: Ints) -> Arrivals:
        users = self._users[slots]
        waits = -np.log1p(-uniform(mix(self._seed, users, turns), RETURN)) / self._rates[slots]
        after = busy_days(np.where(turns == 0, self._start_ms, after_ms))
        start_ms = time_ms(after + waits)
        return Arrivals(np.where(start_ms < self._end_ms, users, NO_USER), turns, start_ms)


def busy_days(times_ms: Ints) -> Floats:
    """Return Λ, the cumulative rate: a whole day counts one."""
    whole, part = np.divmod(times_ms, DAY_MS)
    return np.asarray(whole + np.interp(part / DAY_MS, _EDGES, _CUMULATIVE))


def time_ms(busy: Floats) -> Ints:
    """Return Λ⁻¹, the event time of a cumulative rate."""
    whole = np.floor(busy)
    part = np.interp(busy - whole, _CUMULATIVE, _EDGES)
    return whole.astype(np.int64) * DAY_MS + np.rint(part * DAY_MS).astype(np.int64)
