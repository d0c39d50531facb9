"""Listeners who follow hits, which rise and fade."""

from __future__ import annotations

import numpy as np

from schemas.keyed_random import Keys, integers, mix, uniform
from sim.listeners import draws
from sim.listeners.botify import BotifyListeners
from sim.listeners.model import Floats, Hearing, Ints, Opening
from sim.world.model import World

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

    def open(self, users: Ints, keys: Keys, time_ms: Ints) -> Opening:
        """Open as Botify's listeners do, or with a hit."""
        opening = self._botify.open(users, keys, time_ms)
        of_chart = mix(keys, draws.HIT)
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
        return Opening(opening.tastes, tracks)

    def fractions(self, hearing: Hearing) -> Floats:
        """Return Botify's formula with the hit's part added to the score."""
        scores = self._botify.scores(hearing) + HEIGHT * self.popularity(hearing.tracks, hearing.time_ms)
        return self._botify.discounted(hearing, scores, hearing.artist_counts)

    def popularity(self, tracks: Ints, time_ms: Ints) -> Floats:
        """Return how much of a hit each track is at its time, 0 to 1 (more where two releases overlap)."""
        cycle = time_ms // CYCLE_MS
        # What was released in the cycle before has not faded altogether.
        return sum((self._curve(tracks, cycle - back, time_ms) for back in (0, 1)), start=np.zeros(len(tracks)))

    def _curve(self, tracks: Ints, cycle: Ints, time_ms: Ints) -> Floats:
        keys = mix(self._seed, draws.HIT, tracks, cycle)
        released_ms = (cycle + uniform(keys, _WHEN)) * CYCLE_MS
        age = np.maximum((time_ms - released_ms) / PEAK_AFTER_MS, 0.0)
        return np.where(uniform(keys, _IS_HIT) < HIT_SHARE, age * np.exp(1 - age), 0.0)

    def _hits(self, cycle: int) -> Ints:
        """Return the tracks that are hits of a cycle; the last one is kept, because time stands nearly still."""
        if self._hits_of_cycle[0] != cycle:
            keys = mix(self._seed, draws.HIT, np.arange(self._tracks), cycle)
            self._hits_of_cycle = cycle, np.flatnonzero(uniform(keys, _IS_HIT) < HIT_SHARE)
        return self._hits_of_cycle[1]
