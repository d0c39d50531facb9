"""Listeners for whom music turns overnight, now and then: what was loved leaves them cold, and something else moves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from schemas.keyed_random import Keys, mix, uniform
from sim.listeners import draws
from sim.listeners.botify import BotifyListeners
from sim.listeners.model import Floats, Hearing, Ints, Opening
from sim.world.model import World

PERIOD_MS = 10 * 24 * 60 * 60 * 1000
SHARE = 0.3
"""Of all tracks, that sound like another one in a period."""
_CHANGES, _PLACE = 0, 1


class ShiftingListeners:
    """Botify's listeners, in periods of ten days.

    In each period three tracks in ten, drawn anew for each, sound like another track, of any genre: they change
    vectors in a circle of random order. So at a period's beginning half of the catalogue is not what it was, all at
    once, while the world as a whole is as rich as before: what a model has learned is wrong, what it can learn is not
    less.

    A sudden drift in the words of Gama et al., "A survey on concept drift adaptation" (ACM Computing Surveys, 2014).

    Parameters
    ----------
    world : World
    seed : int

    Examples
    --------
    >>> from sim.world.config import WorldConfig
    >>> from sim.world.generate import generate
    >>> world = World("small", *generate(WorldConfig(tracks=100, artists=20, genres=5, users=3, dimensions=8)), {})
    >>> model = ShiftingListeners(world, seed=7)
    >>> sounds = model.sounds_like(0)
    >>> sorted(sounds.tolist()) == list(range(100)), bool((sounds == model.sounds_like(1)).all())
    (True, False)
    """

    def __init__(self, world: World, seed: int) -> None:
        self._botify = BotifyListeners(world, seed)
        self._tracks = len(world.catalogue)
        self._seed = seed
        self._sounds: tuple[int, Ints] = (-1, np.empty(0, dtype=np.int64))

    def open(self, users: Ints, keys: Keys, time_ms: Ints) -> Opening:
        """Open as Botify's listeners do, with a track that now sounds like the one they would have chosen."""
        opening = self._botify.open(users, keys, time_ms)
        tracks = opening.tracks.copy()
        for period, rows in _by_period(time_ms):
            tracks[rows] = np.argsort(self.sounds_like(period))[tracks[rows]]
        return Opening(opening.tastes, tracks)

    def fractions(self, hearing: Hearing) -> Floats:
        """Return Botify's formula for what each track sounds like."""
        tracks = hearing.tracks.copy()
        for period, rows in _by_period(hearing.time_ms):
            tracks[rows] = self.sounds_like(period)[tracks[rows]]
        return self._botify.fractions(replace(hearing, tracks=tracks))

    def sounds_like(self, period: int) -> Ints:
        """Return the track that each track sounds like in a period, shape (tracks,); the last one asked for is kept."""
        if self._sounds[0] != period:
            tracks = np.arange(self._tracks)
            keys = mix(self._seed, draws.SHIFT, tracks, period)
            changing = np.flatnonzero(uniform(keys, _CHANGES) < SHARE)
            circle = changing[np.argsort(uniform(keys[changing], _PLACE), kind="stable")]
            tracks[circle] = np.roll(circle, 1)
            self._sounds = period, tracks
        return self._sounds[1]


def _by_period(time_ms: Ints) -> list[tuple[int, Ints]]:
    periods = time_ms // PERIOD_MS
    return [(period, np.flatnonzero(periods == period)) for period in np.unique(periods).tolist()]
