"""The options of a run, and the schedule and the pace that follow from them."""

import math
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from botify.core.keyed_random import mix
from botify.sim import SimulationError
from botify.sim.schedule import ALL, DailySchedule, RelaySchedule, Schedule, Shard
from botify.sim.simulation import Simulation
from botify.sim.world.model import World


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Options of a simulation."""

    users: int | None = None  # number of the world's listeners that take part; None for all
    in_flight: int = 2000  # number of sessions at the same time, without `days`
    sessions: int | None = None  # stop after this number of sessions or listens; open sessions continue to their end
    listens: int | None = None
    seconds: float | None = None  # stop after this wall time, and leave open sessions unfinished
    warm_up_s: float = 0.0  # wall time at the start that is not part of the latencies
    seed: int = 1
    model: str = "botify"  # name of a listener model, or `module:Class`
    # days of event time with a daily rhythm, in which listeners return; without it a session starts when another ends
    days: float | None = None
    speed: float | None = None  # event time per wall time; None for full speed
    rate: float | None = None  # offered load: requests per second, whether or not earlier ones were answered
    # event time of the beginning; None for now, or after the newest listen if that is later
    start_ms: int | None = None
    shard: Shard = ALL  # part of the listeners
    run_id: str | None = None  # prefix of all session ids; None for one from the time
    # longest wait for an answer before the request is sent again, and then before the session is ended
    timeout_s: float = 5.0

    def __post_init__(self) -> None:
        for name in ("users", "in_flight", "sessions", "listens", "seconds", "days", "speed", "rate", "timeout_s"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:  # nan is refused too
                raise SimulationError(f"{name} = {value} must be greater than 0 and finite")
        if not -(2**63) <= self.seed < 2**63:
            raise SimulationError(f"seed = {self.seed} must fit into 64 bits")
        if self.speed is not None and self.rate is not None:
            raise SimulationError(f"speed = {self.speed} and rate = {self.rate} exclude each other; give one of them")
        if self.days is not None and self.sessions is not None:
            raise SimulationError(
                f"days = {self.days} and sessions = {self.sessions} exclude each other; give one of them"
            )
        if self.run_id is not None and not 0 < len(self.run_id.encode()) <= 100:
            raise SimulationError(f"run id {self.run_id!r} must have 1 to 100 bytes")


LOOKAHEAD_MS = 10 * 60 * 1000  # by which a listener may lead: well below the sessions' gap of 30 minutes
_LEAST_WAIT_S, _MOST_WAIT_S = 0.002, 0.1  # shorter ones would spin, longer ones be slow to stop
_TICK_S = 0.004  # interval at which an offered load is sent: to wake for a single request costs more than to send it
_SLACK_S = 0.25  # longest stall of an offered load that is caught up


class Due(NamedTuple):
    """The listens that may be finished now."""

    until_ms: int  # latest event time
    most: int | None  # largest number of listens
    wait_s: float | None  # longest wait for answers before the next look; None while any are awaited


class Pace(ABC):
    """Relates event time to wall time."""

    @abstractmethod
    def due(self, now_s: float, simulation: Simulation) -> Due:
        """Return what may be finished `now_s` seconds after the start of the run."""

    def spend(self, requests: int) -> None:  # noqa: B027 - only an offered rate counts them
        """Count requests that were sent, where the pace depends on them."""


class FullSpeed(Pace):
    """As fast as possible, with no listener further ahead than the lookahead."""

    def due(self, now_s: float, simulation: Simulation) -> Due:
        return Due(simulation.earliest_ms() + LOOKAHEAD_MS, None, None)


@dataclass(slots=True)
class WallClock(Pace):
    """Event time is a multiple of the wall time since the start, so it cannot drift."""

    start_ms: int
    speed: float

    def due(self, now_s: float, simulation: Simulation) -> Due:
        until_ms = self.start_ms + int(now_s * 1000 * self.speed)
        next_ms = simulation.next_ms()
        wait_s = _MOST_WAIT_S if next_ms is None else (next_ms - until_ms) / (1000 * self.speed)
        return Due(until_ms, None, min(max(wait_s, _LEAST_WAIT_S), _MOST_WAIT_S))


@dataclass(slots=True)
class OfferedRate(Pace):
    """A fixed number of requests per second, in order of event time, whether or not earlier ones were answered.

    As at full speed no listener is further ahead than the lookahead. It matters when fewer listeners are left than the
    rate needs: without it each would go on as fast as it is answered, and workers would close the sessions of others.
    """

    rate: float
    spent: float = 0.0

    def due(self, now_s: float, simulation: Simulation) -> Due:
        """Allow the requests that are due by the rate, in ticks, within the lookahead."""
        earned = now_s * self.rate
        self.spent = max(self.spent, earned - max(1.0, _SLACK_S * self.rate))
        tick = max(1.0, _TICK_S * self.rate)
        credit = earned - self.spent
        most, wait_s = (int(credit), _TICK_S) if credit >= tick else (0, (tick - credit) / self.rate)
        return Due(simulation.earliest_ms() + LOOKAHEAD_MS, most, min(max(wait_s, _LEAST_WAIT_S), _MOST_WAIT_S))

    def spend(self, requests: int) -> None:
        self.spent += requests


SPREAD_MS = 10 * 60 * 1000  # the first sessions start within this time, so that they are not all at the same track


def schedule_of(world: World, options: RunOptions, start_ms: int) -> Schedule:
    """Return the schedule of a run; raises SimulationError if the world has fewer listeners than `users`."""
    users = len(world.listeners) if options.users is None else options.users
    if users > len(world.listeners):
        raise SimulationError(
            f"users = {users} must be at most {len(world.listeners)}, the listeners of world {world.name}"
        )
    if options.days is not None:
        return DailySchedule(
            np.arange(users), seed=options.seed, start_ms=start_ms, days=options.days, shard=options.shard
        )
    order = np.argsort(mix(options.seed, np.arange(users)), kind="stable")
    times, sessions = {"start_ms": start_ms, "spread_ms": SPREAD_MS}, options.sessions
    return RelaySchedule(order, options.in_flight, sessions=sessions, **times, shard=options.shard)


def pace_of(options: RunOptions, start_ms: int) -> Pace:
    """Return the pace of a run."""
    if options.rate is not None:
        return OfferedRate(options.rate)
    if options.speed is not None:
        return WallClock(start_ms, options.speed)
    return FullSpeed()


def new_run_id() -> str:
    """Return the wall clock in ms, in base 36: short and unique."""
    return np.base_repr(time.time_ns() // 1_000_000, 36).lower()
