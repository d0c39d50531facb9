"""What a run is asked to do."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from core.keyed_random import mix
from sim.errors import SimulationError
from sim.schedule import ALL, DailySchedule, RelaySchedule, Schedule, Shard
from sim.world.model import World


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How to run a simulation.

    Attributes
    ----------
    users : int | None
        How many of the world's listeners take part; None for all.
    in_flight : int
        How many of them listen at a time (where the schedule is a relay).
    sessions, listens : int | None
        Stop when so many sessions were begun or so many listens made; running sessions go on to their end.
    seconds : float | None
        Stop after so much wall time and leave the running sessions unfinished.
    warm_up_s : float
        Wall time at the start that the latencies leave out.
    seed : int
    model : str
        Name of a listener model, or `module:Class`.
    days : float | None
        Listeners follow a daily rhythm for so many days of event time and return on later days; without it one sits
        down when another leaves.
    speed : float | None
        Event time per wall time; None for as fast as it goes.
    rate : float | None
        Offered load: requests per second, made when it is their turn whether or not earlier ones were answered.
    start_ms : int | None
        Event time of the beginning; None for now, or after the newest listen if that is later.
    shard : Shard
        Which part of the listeners.
    run_id : str | None
        First part of all session ids; None for one made from the time.
    timeout_s : float
        How long to wait for an answer before asking again, and then before giving up.
    """

    users: int | None = None
    in_flight: int = 2000
    sessions: int | None = None
    listens: int | None = None
    seconds: float | None = None
    warm_up_s: float = 0.0
    seed: int = 1
    model: str = "botify"
    days: float | None = None
    speed: float | None = None
    rate: float | None = None
    start_ms: int | None = None
    shard: Shard = ALL
    run_id: str | None = None
    timeout_s: float = 5.0

    def __post_init__(self) -> None:
        for name in ("users", "in_flight", "sessions", "listens", "seconds", "days", "speed", "rate", "timeout_s"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:  # not a number is not either
                raise SimulationError(f"{name} = {value} must be greater than 0, and finite")
        if not -(2**63) <= self.seed < 2**63:
            raise SimulationError(f"seed = {self.seed} must fit into 64 bits")
        if self.speed is not None and self.rate is not None:
            raise SimulationError("speed and rate both say when a listen is due; give one of them")
        if self.days is not None and self.sessions is not None:
            raise SimulationError("days and sessions both say when the listeners stop coming; give one of them")
        if self.run_id is not None and not 0 < len(self.run_id.encode()) <= 100:
            raise SimulationError(f"run id {self.run_id!r} must have 1 to 100 bytes")


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


SPREAD_MS = 10 * 60 * 1000
"""The first listeners sit down within this time, so that they are not all at the same track."""
_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"


def schedule_of(world: World, options: RunOptions, start_ms: int) -> Schedule:
    """Return who listens when.

    Raises
    ------
    SimulationError
        The world has fewer listeners than are asked for.
    """
    users = len(world.listeners) if options.users is None else options.users
    if users > len(world.listeners):
        raise SimulationError(f"users = {users}, but world {world.name} has {len(world.listeners)} listeners")
    if options.days is not None:
        return DailySchedule(
            np.arange(users), seed=options.seed, start_ms=start_ms, days=options.days, shard=options.shard
        )
    return RelaySchedule(
        np.argsort(mix(options.seed, np.arange(users)), kind="stable"),
        options.in_flight,
        sessions=options.sessions,
        start_ms=start_ms,
        spread_ms=SPREAD_MS,
        shard=options.shard,
    )


def pace_of(options: RunOptions, start_ms: int) -> Pace:
    """Return when listens are due."""
    if options.rate is not None:
        return OfferedRate(options.rate)
    if options.speed is not None:
        return WallClock(start_ms, options.speed)
    return FullSpeed()


def new_run_id() -> str:
    """Return the wall clock in ms, in base 36: short, and another one each time."""
    value, digits = time.time_ns() // 1_000_000, ""
    while value:
        value, digit = divmod(value, 36)
        digits = _BASE36[digit] + digits
    return digits
