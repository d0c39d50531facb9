"""Who listens when: each seat takes one listener after another, or keeps one who comes and goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sim.errors import SimulationError
from sim.listeners.model import Ints

PAUSE_MS = 60_000
"""How long a seat stays empty between two listeners."""
NOBODY = -1


class Arrivals(NamedTuple):
    """Sessions that begin, one row for each seat asked for.

    Attributes
    ----------
    users : ndarray of int64
        `NOBODY` where the seat stays empty for good.
    ordinals : ndarray of int64
        How many sessions the listener had before.
    start_ms : ndarray of int64
        Event time.
    """

    users: Ints
    ordinals: Ints
    start_ms: Ints


class Schedule(Protocol):
    """Which session comes next on a seat: a pure function of the seat, its turn and when the last session ended."""

    @property
    def seats(self) -> int:
        """How many sessions there can be at a time."""
        ...

    def arrivals(self, seats: Ints, turns: Ints, after_ms: Ints) -> Arrivals:
        """Return the session that begins on each seat for the `turns`-th time, the last having ended at `after_ms`."""
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

    def of(self, seats: int) -> Ints:
        """Return the numbers of this shard's seats."""
        return np.arange(self.index, seats, self.count)


ALL = Shard()


class RelaySchedule:
    """Seats that are hardly ever empty: the next listener sits down when one has gone away.

    The listeners are dealt to the seats once; each seat takes its own in turn, round after round, so who comes next
    never depends on what happens on other seats.

    Parameters
    ----------
    users : ndarray of int
        The listeners, in the order in which they are dealt.
    seats : int
        At most as many as there are listeners.
    sessions : int, optional
        How many sessions there are in all; without it there is no end.
    start_ms : int
        Event time at which the first listeners sit down; each seat begins up to `spread_ms` later.
    spread_ms : int
    shard : Shard

    Examples
    --------
    >>> schedule = RelaySchedule(np.array([5, 6, 7]), seats=2, sessions=4, start_ms=0)
    >>> schedule.arrivals(np.array([0, 0]), np.array([1, 2]), np.array([0, 0])).users.tolist()
    [7, 5]
    """

    def __init__(
        self,
        users: NDArray[np.integer],
        seats: int,
        *,
        sessions: int | None = None,
        start_ms: int = 0,
        spread_ms: int = 0,
        shard: Shard = ALL,
    ) -> None:
        self._users = users.astype(np.int64)
        self._all_seats = min(seats, len(users))
        self._own = shard.of(self._all_seats)
        self._sessions = sessions
        self._start_ms = start_ms
        self._spread_ms = spread_ms

    @property
    def seats(self) -> int:
        """How many seats this shard has."""
        return len(self._own)

    def arrivals(self, seats: Ints, turns: Ints, after_ms: Ints) -> Arrivals:
        """Deal the next listener of each seat."""
        seat = self._own[seats]
        listeners_of_seat = (len(self._users) - 1 - seat) // self._all_seats + 1
        rounds, place = turns // listeners_of_seat, turns % listeners_of_seat
        rank = seat + place * self._all_seats
        users = self._users[rank]
        if self._sessions is not None:
            users = np.where(rounds * len(self._users) + rank < self._sessions, users, NOBODY)
        first = self._start_ms + seat * self._spread_ms // self._all_seats
        return Arrivals(users, rounds, np.where(turns == 0, first, after_ms + PAUSE_MS))
