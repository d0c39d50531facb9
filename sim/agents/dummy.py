"""Plays any track to anybody."""

from __future__ import annotations

import numpy as np

from schemas.keyed_random import integers, mix
from sim.listeners import draws
from sim.listeners.model import Ints
from sim.simulation import Listens
from sim.world.model import Catalogue


class DummyAgent:
    """Draws every track with the same probability.

    Parameters
    ----------
    catalogue : Catalogue
    seed : int
        The same listen gets the same answer, whatever the order of the listens.
    """

    def __init__(self, catalogue: Catalogue, seed: int) -> None:
        self._tracks = len(catalogue)
        self._seed = seed

    def recommend(self, heard: Listens) -> Ints:
        """Draw a track for each listen."""
        keys = mix(self._seed, heard.users, heard.ordinals, heard.positions)
        return integers(keys, draws.AGENT, np.int64(self._tracks))

    def finish(self, heard: Listens) -> None:
        """Learn nothing."""
