"""The oracle: an agent that is told each session's hidden interest, and recommends what will be heard most.

Greedy: at every step the track with the highest true fraction, artist discount included. What a recommender lacks to it
is its regret.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from schemas.keyed_random import mix
from sim.listeners.botify import BotifyListeners
from sim.simulation import Listens
from sim.world.model import World

NEAREST = 700
"""Tracks that a session chooses from; more than a session has."""


class Oracle:
    """Knows what only the simulator knows.

    Parameters
    ----------
    world : World
    seed : int
        Of the run.
    """

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._seed = seed
        self._listeners = BotifyListeners(world, seed)
        self._near: dict[int, NDArray[np.int64]] = {}
        self._values: dict[int, NDArray[np.float64]] = {}

    def recommend(self, heard: Listens) -> NDArray[np.int64]:
        """Return the best track for each session."""
        self._open(heard.where(heard.positions == 0))
        return np.array([self._next(*row) for row in zip(heard.users.tolist(), heard.tracks.tolist(), strict=True)])

    def finish(self, heard: Listens) -> None:
        """Forget sessions."""
        for user in heard.users.tolist():
            self._near.pop(user, None)
            self._values.pop(user, None)

    def _open(self, heard: Listens) -> None:
        if not len(heard):
            return
        users = heard.users
        keys = mix(self._seed, users, heard.ordinals)
        tastes = self._listeners.open(users, keys, heard.time_ms).tastes
        scores = tastes.astype(np.float32) @ self._world.catalogue.embeddings.T
        near = np.argpartition(-scores, min(NEAREST, scores.shape[1]) - 1, axis=1)[:, :NEAREST]
        people = self._world.listeners
        logits = np.take_along_axis(scores, near, axis=1) - people.consume_bias[users][:, None]
        liking = expit(logits * people.consume_sharpness[users][:, None])
        for user, tracks, values in zip(users.tolist(), near, liking, strict=True):
            self._near[user], self._values[user] = tracks, values

    def _next(self, user: int, heard: int) -> int:
        tracks, values = self._near[user], self._values[user]
        artists = self._world.catalogue.artist_of
        values[artists[tracks] == artists[heard]] *= self._world.listeners.artist_discount_gamma[user]
        values[tracks == heard] = -1.0
        best = int(np.argmax(values))
        values[best] = -1.0
        return int(tracks[best])
