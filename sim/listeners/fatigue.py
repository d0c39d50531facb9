"""Listeners who are bored with an artist for days, not only for the rest of a session."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from schemas.keyed_random import Keys
from sim.listeners.botify import BotifyListeners
from sim.listeners.model import Floats, Hearing, Ints, Opening
from sim.world.model import World

HALF_LIFE_MS = 3 * 24 * 60 * 60 * 1000
MEMORY = 64
"""Artists that a listener remembers; the one that is forgotten most makes room."""


class FatiguedListeners:
    """Botify's listeners with a memory: the artist's discount counts listens of earlier sessions too.

    A track is heard to ::

        round(expit((⟨track, interest⟩ − consume_bias) · consume_sharpness) · γ ** boredom, 2)
        boredom = Σ 2 ** (−(t − tᵢ) / 3 days)

    over all listens of the artist at times tᵢ. Within a session that is hardly less than Botify's count.

    Boredom that grows with exposure and wears off is what Kapoor et al., "Just in time recommendations: modeling the
    dynamics of boredom in activity streams" (WSDM 2015), found in listening histories; the formula is ours.

    Parameters
    ----------
    world : World
    seed : int

    Examples
    --------
    >>> from schemas.keyed_random import mix
    >>> from sim.world.config import WorldConfig
    >>> from sim.world.generate import generate
    >>> world = World("small", *generate(WorldConfig(tracks=100, artists=20, genres=5, users=3, dimensions=8)), {})
    >>> model, users = FatiguedListeners(world, seed=7), np.array([0])
    >>> opening = model.open(users, mix(7, users), np.array([0]))
    >>> artists = world.catalogue.artist_of[opening.tracks]
    >>> [model.boredom(users, artists, np.array([t])).tolist() for t in (0, HALF_LIFE_MS)]
    [[1.0], [0.5]]
    """

    def __init__(self, world: World, seed: int) -> None:
        self._botify = BotifyListeners(world, seed)
        self._artist_of = world.catalogue.artist_of
        shape = (len(world.listeners), MEMORY)
        self._artists = np.full(shape, -1, dtype=np.int32)
        self._levels = np.zeros(shape)
        self._at_ms = np.zeros(shape, dtype=np.int64)

    def open(self, users: Ints, keys: Keys, time_ms: Ints) -> Opening:
        """Open as Botify's listeners do, and remember the artist."""
        opening = self._botify.open(users, keys, time_ms)
        self._remember(users, self._artist_of[opening.tracks], time_ms)
        return opening

    def fractions(self, hearing: Hearing) -> Floats:
        """Return the formula of the class, and remember the artists."""
        artists = self._artist_of[hearing.tracks]
        boredom = self.boredom(hearing.users, artists, hearing.time_ms)
        self._remember(hearing.users, artists, hearing.time_ms)
        return self._botify.discounted(hearing, self._botify.scores(hearing), boredom)

    def boredom(self, users: Ints, artists: NDArray[np.integer], time_ms: Ints) -> Floats:
        """Return how bored each listener is with an artist, in listens just made."""
        known = self._artists[users] == artists[:, None]
        levels: Floats = np.where(known, self._faded(users, time_ms), 0.0).sum(axis=1)
        return levels

    def _faded(self, users: Ints, time_ms: Ints) -> Floats:
        faded: Floats = self._levels[users] * 2.0 ** (-(time_ms[:, None] - self._at_ms[users]) / HALF_LIFE_MS)
        return faded

    def _remember(self, users: Ints, artists: NDArray[np.integer], time_ms: Ints) -> None:
        known = self._artists[users] == artists[:, None]
        faded = self._faded(users, time_ms)
        place = np.where(known.any(axis=1), known.argmax(axis=1), faded.argmin(axis=1))
        rows = np.arange(len(users))
        self._levels[users, place] = np.where(known[rows, place], faded[rows, place], 0.0) + 1.0
        self._artists[users, place] = artists
        self._at_ms[users, place] = time_ms
