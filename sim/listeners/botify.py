"""Botify's listeners: a session follows one interest, and each further track of an artist is liked a little less."""

from __future__ import annotations

import numpy as np
from scipy.special import expit, ndtr

from botify.core.keyed_random import Keys, integers
from botify.sim.listeners.model import FIRST_TRACK, INTEREST, Exposure, Floats, Ints, SessionStart
from botify.sim.world.model import World


class BotifyListeners:
    """The course's user model.

    A session picks one of the listener's interests and starts at one of the `interest_neighbours` tracks nearest to it
    by inner product. A recommended track is heard to the fraction ::

        round(expit((⟨track, interest⟩ − consume_bias) · consume_sharpness) · γ ** artist_count, 2)

    and to 0 if the session has had it already.

    Source: `sim/envs/user.py` of the course's repository, anokhin/recsys-course-spring-2024.

    `seed`: not used here, where all randomness comes from the keys of the sessions; the models of `changing` use it.

    Examples
    --------
    >>> from botify.sim.world.config import WorldConfig
    >>> from botify.sim.world.generate import generate
    >>> from botify.core.keyed_random import mix
    >>> world = World("small", *generate(WorldConfig(tracks=100, artists=20, genres=5, users=3, dimensions=8)), {})
    >>> BotifyListeners(world, seed=7).open(np.array([0, 1]), mix(7, [0, 1]), np.array([0, 0])).tastes.shape
    (2, 8)
    """

    def __init__(self, world: World, seed: int) -> None:
        self._catalogue = world.catalogue
        self._people = world.listeners
        self._seed = seed

    def open(self, users: Ints, keys: Keys, time_ms: Ints) -> SessionStart:
        """Pick an interest of each listener, and one of its neighbours."""
        people = self._people
        slots = integers(keys, INTEREST, people.interests.shape[1])
        nth = integers(keys, FIRST_TRACK, people.interest_neighbours[users])
        return SessionStart(
            tastes=self.tastes(users, slots), tracks=people.neighbours[users, slots, nth].astype(np.int64)
        )

    def tastes(self, users: Ints, slots: Ints) -> Floats:
        """Return what interests of listeners look for, shape (n, dimensions)."""
        people = self._people
        if people.tastes is not None:
            return people.tastes[users, slots].astype(np.float64)
        return self._catalogue.embeddings[people.interests[users, slots]].astype(np.float64)

    def fractions(self, exposure: Exposure) -> Floats:
        """Return the formula of the class, row by row."""
        return np.round(self.appeal(exposure), 2)

    def appeal(self, exposure: Exposure) -> Floats:
        """Return the formula before it is rounded."""
        return self.discounted(exposure, self.scores(exposure), exposure.artist_counts)

    def scores(self, exposure: Exposure) -> Floats:
        """Return the inner product of each track with the taste of its listener's session."""
        # in float64, so that a product does not depend on how the batch was cut
        tracks = self._catalogue.embeddings.take(exposure.tracks, axis=0).astype(np.float64)
        scores: Floats = np.vecdot(tracks, exposure.tastes)
        return scores

    def link(self, scores: Floats) -> Floats:
        """Return how much of a track is heard, by its score."""
        shares: Floats = expit(scores)
        return shares

    def discounted(self, exposure: Exposure, scores: Floats, artist_counts: Ints | Floats) -> Floats:
        """Return the appeal for other scores and artist counts than the model's own."""
        people, users = self._people, exposure.users
        affinity = self.link((scores - people.consume_bias[users]) * people.consume_sharpness[users])
        discount = people.artist_discount_gamma[users] ** artist_counts
        return np.where(exposure.repeated, 0.0, affinity * discount)


class ProbitListeners(BotifyListeners):
    """The course's listeners with the normal distribution in place of the logistic one.

    It falls faster: what a listener likes little is hardly heard. For trying recommenders in a world of other rules.
    """

    def link(self, scores: Floats) -> Floats:
        """Return Φ of the scores."""
        shares: Floats = ndtr(scores)
        return shares
