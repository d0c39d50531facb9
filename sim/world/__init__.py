"""Worlds: a catalogue of tracks with hidden vectors, and listeners with hidden taste."""

from botify.sim.world.config import DEFAULT, EASY, NAMED, WorldConfig
from botify.sim.world.model import Listeners, World, WorldCatalogue
from botify.sim.world.store import find_world, open_world

__all__ = [
    "DEFAULT",
    "EASY",
    "NAMED",
    "Listeners",
    "World",
    "WorldCatalogue",
    "WorldConfig",
    "find_world",
    "open_world",
]
