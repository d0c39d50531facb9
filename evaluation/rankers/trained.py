"""Rankers that are trained in batches: again and again along the log, on all that was learned so far."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from botify.analytics.offline.ranking import NO_TRACK
from botify.evaluation.log import Events, Ints, joined
from botify.evaluation.ranker import UNTUNED, Histories, Setup, best_of_scores


class TrainedRanker(ABC):
    """Collects events, and is trained `Setup.trainings` times in the course of a log, each time from nothing.

    It learns from positive items. Between two trainings a user's history still has all that the user has heard.
    """

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.note = "" if setup.settings else UNTUNED
        self._all = Histories()
        self._positive = Histories()
        self._parts: list[Events] = []
        self._learned = 0
        self._is_trained = False
        self._due = -(-setup.events // setup.trainings)

    @abstractmethod
    def train(self, learned: Events) -> None:
        """Train on all positive events so far, in their order."""

    @abstractmethod
    def scores(self, users: Ints, rows: Ints, items: Ints) -> NDArray[np.float32]:
        """Return the score of each item, shape (n, items); -inf for one that is not to be recommended.

        Parameters
        ----------
        users : ndarray of int64, shape (n,)
        rows, items : ndarray of int64, shape (m,)
            Their positive items in order, also those since the last training, and whose they are, as a position in
            `users`.
        """

    def learn(self, events: Events) -> None:
        """Collect."""
        positive = events.rows(events.are_positive(self.setup.positive))
        self._all.learn(events.users, events.items)
        self._positive.learn(positive.users, positive.items)
        self._parts.append(positive)
        self._learned += events.size

    def rank(self, users: Ints, times_ms: Ints, k: int) -> Ints:
        """Train if it is due, and rank all items; none before the first training."""
        if self._learned >= self._due:
            self._due = self._learned + -(-self.setup.events // self.setup.trainings)
            self._parts = [joined(self._parts)]
            self.train(self._parts[0])
            self._is_trained = True
        if not self._is_trained:
            return np.full((len(users), k), NO_TRACK, dtype=np.int64)
        nothing = np.zeros(0, dtype=np.int64)
        excluded = (nothing, nothing) if self.setup.repeats else self._all.of(users)
        return best_of_scores(self.scores(users, *self._positive.of(users)), excluded, k)


class MatrixRanker(TrainedRanker):
    """A model of users × items, without an order."""

    @abstractmethod
    def fit(self, heard: sparse.csr_matrix) -> None:
        """Train on users × items."""

    @abstractmethod
    def scores_of(self, users: Ints, heard: sparse.csr_matrix) -> NDArray[np.float32]:
        """Return the score of each item, shape (n, items), for users and their rows."""

    def train(self, learned: Events) -> None:
        """Train on the matrix of all users."""
        self.fit(self._matrix(learned.users, learned.items, self.setup.users))

    def scores(self, users: Ints, rows: Ints, items: Ints) -> NDArray[np.float32]:
        """Return the score of each item, shape (n, items)."""
        return self.scores_of(users, self._matrix(rows, items, len(users)))

    def _matrix(self, rows: Ints, items: Ints, count: int) -> sparse.csr_matrix:
        ones = np.ones(len(rows), dtype=np.float32)
        return sparse.csr_matrix((ones, (rows, items)), shape=(count, self.setup.items))
