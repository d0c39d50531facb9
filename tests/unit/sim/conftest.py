"""Worlds for the tests of the simulator."""

import pytest

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
