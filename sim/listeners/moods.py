"""Listeners who are bored with an artist for days, not only for the rest of a session."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.keyed_random import Keys, integers, mix, uniform
from sim.listeners.botify import BotifyListeners
from sim.listeners.model import HIT, Exposure, Floats, Ints, SessionStart
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
    >>> from core.keyed_random import mix
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

    def open(self, users: Ints, keys: Keys, time_ms: Ints) -> SessionStart:
        """Open as Botify's listeners do, and remember the artist."""
        opening = self._botify.open(users, keys, time_ms)
        self._remember(users, self._artist_of[opening.tracks], time_ms)
        return opening

    def fractions(self, exposure: Exposure) -> Floats:
        """Return the formula of the class, and remember the artists."""
        artists = self._artist_of[exposure.tracks]
        boredom = self.boredom(exposure.users, artists, exposure.time_ms)
        self._remember(exposure.users, artists, exposure.time_ms)
        return self._botify.discounted(exposure, self._botify.scores(exposure), boredom)

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


CYCLE_MS = 14 * 24 * 60 * 60 * 1000
PEAK_AFTER_MS = 2 * 24 * 60 * 60 * 1000
HIT_SHARE = 0.005
"""Of all tracks, in each cycle."""
HEIGHT = 4.0
"""What a hit at its peak adds to the score; `consume_bias` goes from 0 to 10."""
CHART_SHARE = 0.3
"""Of sessions that look for a hit to start with."""
_IS_HIT, _WHEN = 0, 1
_LOOKS, _WHICH = 0, 1


class TrendingListeners:
    """Botify's listeners, who like a track better while it is a hit.

    In each cycle of 14 days, one track in 200 is released as a hit at a time r within the cycle. At time t it adds ::

        4 · x · exp(1 − x),   x = (t − r) / 2 days,  from r on,

    to the score of the track: a steep rise, a peak after two days and a slow fade. Three sessions in ten pick a hit
    of their time and start with it with probability x · exp(1 − x), so that listens show what is a hit.

    Bursts of attention that relax are described by Crane and Sornette, "Robust dynamic classes revealed by measuring
    the response function of a social system" (PNAS 2008); the curve, an alpha function, is ours.

    Parameters
    ----------
    world : World
    seed : int

    Examples
    --------
    >>> from sim.world.config import WorldConfig
    >>> from sim.world.generate import generate
    >>> world = World("small", *generate(WorldConfig(tracks=1000, artists=20, genres=5, users=3, dimensions=8)), {})
    >>> model, day_ms = TrendingListeners(world, seed=7), 24 * 60 * 60 * 1000
    >>> curve = model.popularity(np.repeat(np.arange(1000), 14), np.tile(np.arange(14) * day_ms, 1000))
    >>> bool(curve.max() > 0.5), bool(np.median(curve) == 0.0)
    (True, True)
    """

    def __init__(self, world: World, seed: int) -> None:
        self._botify = BotifyListeners(world, seed)
        self._seed = seed
        self._tracks = len(world.catalogue)
        self._hits_of_cycle: tuple[int, Ints] = (-1, np.empty(0, dtype=np.int64))

    def open(self, users: Ints, keys: Keys, time_ms: Ints) -> SessionStart:
        """Open as Botify's listeners do, or with a hit."""
        opening = self._botify.open(users, keys, time_ms)
        of_chart = mix(keys, HIT)
        looks = uniform(of_chart, _LOOKS)
        tracks = opening.tracks.copy()
        cycles = time_ms // CYCLE_MS
        for cycle in np.unique(cycles).tolist():
            rows = np.flatnonzero(cycles == cycle)
            hits = self._hits(cycle)
            if len(hits):
                candidates = hits[integers(of_chart[rows], _WHICH, len(hits))]
                starts = looks[rows] < CHART_SHARE * self.popularity(candidates, time_ms[rows])
                tracks[rows[starts]] = candidates[starts]
        return SessionStart(opening.tastes, tracks)

    def fractions(self, exposure: Exposure) -> Floats:
        """Return Botify's formula with the hit's part added to the score."""
        scores = self._botify.scores(exposure) + HEIGHT * self.popularity(exposure.tracks, exposure.time_ms)
        return self._botify.discounted(exposure, scores, exposure.artist_counts)

    def popularity(self, tracks: Ints, time_ms: Ints) -> Floats:
        """Return how much of a hit each track is at its time, 0 to 1 (more where two releases overlap)."""
        cycle = time_ms // CYCLE_MS
        # What was released in the cycle before has not faded altogether.
        return sum((self._curve(tracks, cycle - back, time_ms) for back in (0, 1)), start=np.zeros(len(tracks)))

    def _curve(self, tracks: Ints, cycle: Ints, time_ms: Ints) -> Floats:
        keys = mix(self._seed, HIT, tracks, cycle)
        released_ms = (cycle + uniform(keys, _WHEN)) * CYCLE_MS
        age = np.maximum((time_ms - released_ms) / PEAK_AFTER_MS, 0.0)
        return np.where(uniform(keys, _IS_HIT) < HIT_SHARE, age * np.exp(1 - age), 0.0)

    def _hits(self, cycle: int) -> Ints:
        """Return the tracks that are hits of a cycle; the last one is kept, because time stands nearly still."""
        if self._hits_of_cycle[0] != cycle:
            keys = mix(self._seed, HIT, np.arange(self._tracks), cycle)
            self._hits_of_cycle = cycle, np.flatnonzero(uniform(keys, _IS_HIT) < HIT_SHARE)
        return self._hits_of_cycle[1]
