"""From options to the parts of a run: who listens, at what pace, under what name."""

from __future__ import annotations

import time

import numpy as np

from schemas.keyed_random import mix
from sim.errors import SimulationError
from sim.options import RunOptions
from sim.pace import FullSpeed, OfferedRate, Pace, WallClock
from sim.rhythm import DailySchedule
from sim.schedule import RelaySchedule, Schedule
from sim.world.model import World

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
