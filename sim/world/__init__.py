"""Worlds: a catalogue of tracks with hidden vectors, and listeners with hidden taste."""

from sim.world.config import WorldConfig
from sim.world.model import Listeners, World, WorldCatalogue
from sim.world.store import find_world, open_world

__all__ = ["Listeners", "World", "WorldCatalogue", "WorldConfig", "find_world", "open_world"]
