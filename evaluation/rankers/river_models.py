"""`river`'s biased matrix factorisation: learned event by event, from the values.

It predicts a value, and ranks by it. A log in which all values are equal, such as one of plays only, teaches it nothing
but that value.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from botify.analytics.offline.ranking import NO_TRACK
from botify.evaluation.log import Events, Ints
from botify.evaluation.ranker import UNTUNED, Histories, Setup, best_of_scores


class RiverFactors:
    """The model, and its vectors as arrays; the setting is the number of `factors`."""

    def __init__(self, setup: Setup) -> None:
        from river.reco import BiasedMF

        self.note = "" if setup.settings else UNTUNED
        factors = int(setup.setting("factors", 10))
        self._model = BiasedMF(n_factors=factors, seed=setup.seed)
        self._histories = Histories()
        self._repeats = setup.repeats
        self._users = np.zeros((setup.users, factors))
        self._items: NDArray[np.float64] = np.zeros((setup.items, factors))
        self._bias = np.full(setup.items, -np.inf)

    def learn(self, events: Events) -> None:
        """Learn each event's value."""
        model = self._model
        rows = zip(events.users.tolist(), events.items.tolist(), events.fractions.tolist(), strict=True)
        for user, item, fraction in rows:
            model.learn_one(user=user, item=item, y=fraction)
            self._users[user], self._items[item] = model.u_latents[user], model.i_latents[item]
            self._bias[item] = model.i_biases[item]
        self._histories.learn(events.users, events.items)

    def rank(self, users: Ints, times_ms: Ints, k: int) -> Ints:
        """Rank the items that were met by their predicted value."""
        if np.isneginf(self._bias).all():
            return np.full((len(users), k), NO_TRACK, dtype=np.int64)
        nothing = np.zeros(0, dtype=np.int64)
        excluded = (nothing, nothing) if self._repeats else self._histories.of(users)
        return best_of_scores(self._users[users] @ self._items.T + self._bias, excluded, k)
