"""Data from the simulator's listeners, without Kafka: for what statistics say where the truth is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from botify.sim.listeners.botify import BotifyListeners
from botify.sim.schedule import RelaySchedule
from botify.sim.simulation import FinishedListens, Simulation
from botify.sim.world.config import WorldConfig
from botify.sim.world.generate import generate
from botify.sim.world.model import World

Policy = Callable[[FinishedListens], NDArray[np.int64]]
"""Tracks for the listeners who ask, given what each has just heard."""
STEP_MS = 60_000


def small_world(users: int, tracks: int = 300) -> World:
    # everything is named: the defaults are calibrated for large worlds, and may be again
    config = WorldConfig(
        seed=2,
        tracks=tracks,
        artists=tracks // 5,
        genres=8,
        users=users,
        dimensions=16,
        clusters=4,
        popularity_exponent=0.75,
        popularity_offset=0.001,
        common_norm=0.7,
        genre_norm=2.2,
        artist_norm=1.0,
        own_norm=2.0,
        interests=3,
        bias_max=10.0,
        interest_neighbours=10,
        session_budget=5,
        artist_discount_gamma=0.9,
    )
    return World("small", *generate(config), {})


def play(world: World, policy: Policy, seed: int, sessions_each: int) -> Iterator[FinishedListens]:
    """Let every listener of the world have so many sessions."""
    users = len(world.listeners)
    schedule = RelaySchedule(np.arange(users), users, sessions=users * sessions_each)
    simulation = Simulation(world, BotifyListeners(world, seed), schedule, seed)
    while simulation.running:
        listens = simulation.finish_listens(simulation.earliest_ms() + STEP_MS)
        yield listens
        asking = listens.where(~listens.ended)
        simulation.answer(asking.slots, policy(asking))


def sessions_frame(played: Iterator[FinishedListens]) -> pd.DataFrame:
    """One row a session: user, ordinal, tracks and time."""
    columns = ("users", "ordinals", "fractions")
    listens = pd.concat([pd.DataFrame({name: getattr(part, name) for name in columns}) for part in played])
    totals = listens.groupby(["users", "ordinals"])["fractions"].agg(["size", "sum"]).reset_index()
    return totals.set_axis(["user", "ordinal", "tracks", "time"], axis=1)
