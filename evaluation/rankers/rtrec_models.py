"""`rtrec`'s SLIM: a sparse linear item-to-item model that is fitted again for the items of new interactions.

Interactions are known to it at once, the weights are fitted `Setup.trainings` times along the log: each fit builds the
whole matrix, which costs seconds.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from botify.analytics.offline.ranking import NO_TRACK
from botify.evaluation.log import Events, Ints
from botify.evaluation.ranker import UNTUNED, Histories, Setup, without


class RtrecSlim:
    """SLIM with its defaults."""

    def __init__(self, setup: Setup) -> None:
        from rtrec.models import SLIM

        self.note = UNTUNED
        self._setup = setup
        self._model: Any = SLIM(min_value=0, max_value=1)
        self._histories = Histories()
        self._new: list[tuple[int, int, float, float]] = []
        self._every = self._due = -(-setup.events // setup.trainings)
        self._learned = 0
        self._is_fitted = False

    def learn(self, events: Events) -> None:
        """Take interactions in; those that are not positive are left out."""
        good = events.rows(events.are_positive(self._setup.positive))
        seconds = (good.times_ms / 1000).tolist()
        new = list(zip(good.users.tolist(), good.items.tolist(), seconds, good.fractions.tolist(), strict=True))
        self._model.add_interactions(new, update_interaction=True)
        self._new += new
        self._learned += events.size
        self._histories.learn(events.users, events.items)

    def rank(self, users: Ints, times_ms: Ints, k: int) -> Ints:
        """Fit if it is due, and rank."""
        if self._learned >= self._due and self._new:
            self._due = self._learned + self._every
            self._model.fit(self._new, update_interaction=True, progress_bar=False)
            self._new = []
            self._is_fitted = True
        lists = np.full((len(users), self._setup.items), NO_TRACK, dtype=np.int64)
        if self._is_fitted:
            most = min(k if self._setup.repeats else k + self._histories.longest(users), self._setup.items)
            found = self._model.recommend_batch(users.tolist(), top_k=most, filter_interacted=not self._setup.repeats)
            for row, items in enumerate(found):
                lists[row, : len(items)] = items
        nothing = np.zeros(0, dtype=np.int64)
        excluded = (nothing, nothing) if self._setup.repeats else self._histories.of(users)
        return without(lists, excluded, self._setup.items, k)
