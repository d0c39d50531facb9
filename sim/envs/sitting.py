"""What the environments share: seats that are always taken, one listen each at a time."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from sim.envs.walk_in import WalkInSchedule
from sim.listeners.load import load_model
from sim.listeners.model import Floats
from sim.simulation import Listens, Simulation
from sim.world.model import World

_NO_LIMIT_MS = 2**62


class Sitting:
    """Seats of a world; all of them hear a track in each round.

    Attributes
    ----------
    heard : Listens
        The last listen on each seat, in the order of the seats.
    """

    heard: Listens

    def __init__(self, world: World, model: str, seats: int, seed: int) -> None:
        self._catalogue = world.catalogue
        self._artists = np.array(world.catalogue.artists, dtype=object)
        schedule = WalkInSchedule(len(world.listeners), seats, seed)
        self._simulation = Simulation(world, load_model(model, world, seed), schedule, seed)
        self._listen()

    def play(self, tracks: NDArray[np.int64]) -> None:
        """Play a track to each listener; where one has gone away, the next one sits down and chooses the first.

        Raises
        ------
        gymnasium.error.InvalidAction
            There is no such track, or not one for each listener.
        """
        staying = ~self.heard.ended
        if tracks.shape != staying.shape:
            raise gymnasium.error.InvalidAction(f"actions of shape {tracks.shape}, for {len(staying)} listeners")
        played = tracks[staying]
        if (unknown := played[(played < 0) | (played >= len(self._catalogue))]).size:
            raise gymnasium.error.InvalidAction(f"track {unknown[0]}; there are 0 to {len(self._catalogue) - 1}")
        self._simulation.answer(self.heard.seats[staying], played)
        self._listen()

    def change(self) -> None:
        """Let everybody go away, and others sit down."""
        self._simulation.abandon(self._simulation.asking)
        self._listen()

    def observations(self) -> dict[str, Any]:
        """Return the columns of the observation space, one row for each seat."""
        heard = self.heard
        return {
            "user": heard.users,
            "track": heard.tracks,
            "fraction": heard.fractions[:, None].astype(np.float32),
            "position": heard.positions[:, None].astype(np.int32),
        }

    def infos(self) -> dict[str, Any]:
        """Return the columns of the info, one row for each seat."""
        heard = self.heard
        return {
            "session": heard.ordinals,
            "artist": self._artists[self._catalogue.artist_of[heard.tracks]],
            "timestamp_ms": heard.time_ms,
        }

    def rewards(self) -> Floats:
        """Return the fraction of what was played; 0 where the listener chose the track."""
        return np.where(self.heard.positions > 0, self.heard.fractions, 0.0)

    def _listen(self) -> None:
        listens = self._simulation.finish_listens(_NO_LIMIT_MS)
        self.heard = listens.where(np.argsort(listens.seats))
