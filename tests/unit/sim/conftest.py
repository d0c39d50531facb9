"""Worlds for the tests of the simulator, and listeners about to hear a track."""

import numpy as np
import pytest
from numpy.typing import ArrayLike

from botify.core.keyed_random import mix
from botify.sim.listeners.model import Exposure
from botify.sim.world.config import DEFAULT, WorldConfig
from botify.sim.world.generate import generate
from botify.sim.world.model import World

SMALL = WorldConfig(tracks=400, artists=80, genres=6, users=60, dimensions=12, clusters=4)


@pytest.fixture(scope="session")
def small_world() -> World:
    return World("small", *generate(SMALL), {})


@pytest.fixture(scope="session")
def default_world() -> World:
    return World("default", *generate(DEFAULT), {})


def exposure(
    world: World, played: ArrayLike, time_ms: ArrayLike, by: ArrayLike | None = None, counts: ArrayLike | None = None
) -> Exposure:
    tracks = np.array(played)
    users = np.zeros(len(tracks), dtype=np.int64) if by is None else np.array(by)
    return Exposure(
        users=users,
        tracks=tracks,
        tastes=world.catalogue.embeddings[world.listeners.interests[users, 0]].astype(np.float64),
        repeated=np.zeros(len(tracks), dtype=np.bool_),
        artist_counts=np.zeros(len(tracks), dtype=np.int64) if counts is None else np.array(counts),
        time_ms=np.array(np.broadcast_to(time_ms, len(tracks))),
        keys=mix(7, users),
        positions=np.ones(len(tracks), dtype=np.int64),
    )
