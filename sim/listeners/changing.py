"""Listeners whose interests move over days: each leaves home for another interest, and comes back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from core.keyed_random import Keys, integers, mix, uniform
from sim.listeners.botify import BotifyListeners
from sim.listeners.model import DRIFT, FIRST_TRACK, INTEREST, SHIFT, Exposure, Floats, Ints, SessionStart
from sim.world.model import World

DRIFT_PERIOD_MS = 28 * 24 * 60 * 60 * 1000
_PHASE, _WHOSE, _WHICH = 0, 1, 2


class DriftingListeners:
    """Botify's listeners with interests that change with time.

    In each period of 28 days an interest h of a listener moves to an interest g of another listener, drawn anew for
    each period, and back; a session at time t is after ::

        (1 − a) · h + a · g,   a = sin²(π · phase(t)),

    the phase running from 0 to 1 through a period that begins at another time for each interest. With probability a
    the session starts near g, otherwise near h. Drawing g from all listeners' interests keeps popular music popular.

    That taste is a function of time, user by user, is what Koren, "Collaborative filtering with temporal dynamics"
    (KDD 2009), found in ratings; the curve is ours.

    Parameters
    ----------
    world : World
    seed : int

    Examples
    --------
    >>> from sim.world.config import WorldConfig
    >>> from sim.world.generate import generate
    >>> world = World("small", *generate(WorldConfig(tracks=100, artists=20, genres=5, users=3, dimensions=8)), {})
    >>> model, users, times = DriftingListeners(world, seed=7), np.array([0]), np.array([0])
    >>> now, later = (model.open(users, mix(7, users), times + days * 86_400_000).tastes for days in (0, 7))
    >>> bool(np.allclose(now, later))
    False
    """

    def __init__(self, world: World, seed: int) -> None:
        self._botify = BotifyListeners(world, seed)
        self._embeddings = world.catalogue.embeddings
        self._people = world.listeners
        self._seed = seed

    def open(self, users: Ints, keys: Keys, time_ms: Ints) -> SessionStart:
        """Pick an interest of each listener as it is at this time, and a track near it."""
        people = self._people
        slots = integers(keys, INTEREST, people.interests.shape[1])
        hosts, host_slots, away = self._drift(users, slots, time_ms)
        home = self._embeddings[people.interests[users, slots]].astype(np.float64)
        guest = self._embeddings[people.interests[hosts, host_slots]].astype(np.float64)
        is_away = uniform(keys, DRIFT) < away
        near_user, near_slot = np.where(is_away, hosts, users), np.where(is_away, host_slots, slots)
        nth = integers(keys, FIRST_TRACK, people.interest_neighbours[near_user])
        return SessionStart(
            tastes=(1 - away)[:, None] * home + away[:, None] * guest,
            tracks=people.neighbours[near_user, near_slot, nth].astype(np.int64),
        )

    def fractions(self, exposure: Exposure) -> Floats:
        """Return Botify's formula with the session's taste."""
        return self._botify.fractions(exposure)

    def _drift(self, users: Ints, slots: Ints, time_ms: Ints) -> tuple[Ints, Ints, NDArray[np.float64]]:
        """Return whose interest each interest has moved to, which of theirs, and how far it has moved."""
        of_interest = mix(self._seed, users, slots)
        periods = time_ms / DRIFT_PERIOD_MS + uniform(of_interest, _PHASE)
        period, phase = np.floor(periods).astype(np.int64), periods % 1.0
        of_period = mix(of_interest, period)
        hosts = integers(of_period, _WHOSE, len(self._people))
        host_slots = integers(of_period, _WHICH, self._people.interests.shape[1])
        return hosts, host_slots, np.sin(np.pi * phase) ** 2


SHIFT_PERIOD_MS = 10 * 24 * 60 * 60 * 1000
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

    def open(self, users: Ints, keys: Keys, time_ms: Ints) -> SessionStart:
        """Open as Botify's listeners do, with a track that now sounds like the one they would have chosen."""
        opening = self._botify.open(users, keys, time_ms)
        tracks = opening.tracks.copy()
        for period, rows in _by_period(time_ms):
            tracks[rows] = np.argsort(self.sounds_like(period))[tracks[rows]]
        return SessionStart(opening.tastes, tracks)

    def fractions(self, exposure: Exposure) -> Floats:
        """Return Botify's formula for what each track sounds like."""
        tracks = exposure.tracks.copy()
        for period, rows in _by_period(exposure.time_ms):
            tracks[rows] = self.sounds_like(period)[tracks[rows]]
        return self._botify.fractions(replace(exposure, tracks=tracks))

    def sounds_like(self, period: int) -> Ints:
        """Return the track that each track sounds like in a period, shape (tracks,); the last one asked for is kept."""
        if self._sounds[0] != period:
            tracks = np.arange(self._tracks)
            keys = mix(self._seed, SHIFT, tracks, period)
            changing = np.flatnonzero(uniform(keys, _CHANGES) < SHARE)
            circle = changing[np.argsort(uniform(keys[changing], _PLACE), kind="stable")]
            tracks[circle] = np.roll(circle, 1)
            self._sounds = period, tracks
        return self._sounds[1]


def _by_period(time_ms: Ints) -> list[tuple[int, Ints]]:
    periods = time_ms // SHIFT_PERIOD_MS
    return [(period, np.flatnonzero(periods == period)) for period in np.unique(periods).tolist()]
