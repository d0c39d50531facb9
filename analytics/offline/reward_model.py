"""A plain model of what is heard of a recommendation, for doubly robust estimates: it need not be right, only help."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analytics.offline.ranking import NO_TRACK

PRIOR_DECISIONS = 20
"""So many decisions of average reward are added to each track's own, so that few of them say little."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RewardModel:
    """What is heard of a track on average, and what is added where it is by the artist just heard.

    Attributes
    ----------
    artist_of : ndarray of int64, shape (tracks,)
        By track id.
    quality : ndarray of float64, shape (tracks,)
        Mean reward of each track, drawn towards the mean of all.
    same_artist : float
    """

    artist_of: Ints
    quality: Floats
    same_artist: float

    @classmethod
    def fit(cls, decisions: pd.DataFrame, artist_of: Ints) -> Self:
        """Learn from decisions that are not those to be judged.

        Parameters
        ----------
        decisions : DataFrame
            As `analytics.offline.drawn.logged_decisions`.
        artist_of : ndarray of int64, shape (tracks,)
            By track id.

        Examples
        --------
        >>> decisions = pd.DataFrame({"previous": [0, 2], "track": [1, 1], "reward": [1.0, 0.0]})
        >>> model = RewardModel.fit(decisions, artist_of=np.array([0, 0, 1]))
        >>> model.predict(np.array([0]), np.array([[1, 2, -1]])).tolist()
        [[1.0, 0.5, 0.5]]
        """
        track, reward = decisions["track"].to_numpy(), decisions["reward"].to_numpy()
        sums = np.bincount(track, reward, len(artist_of))
        counts = np.bincount(track, minlength=len(artist_of))
        quality = (sums + PRIOR_DECISIONS * reward.mean()) / (counts + PRIOR_DECISIONS)
        same = artist_of[track] == artist_of[decisions["previous"].to_numpy()]
        return cls(artist_of, quality, float((reward - quality[track])[same].mean()) if same.any() else 0.0)

    def predict(self, previous: Ints, tracks: Ints) -> Floats:
        """Return the reward of each track, given what was heard before it.

        Parameters
        ----------
        previous : ndarray of int64, shape (n,)
        tracks : ndarray of int64, shape (n, k)
            The value of `NO_TRACK` says nothing.
        """
        known = np.where(tracks == NO_TRACK, 0, tracks)
        same = (self.artist_of[known] == self.artist_of[previous][:, None]) & (tracks != NO_TRACK)
        reward: Floats = self.quality[known] + self.same_artist * same
        reward[tracks == NO_TRACK] = self.quality.mean()
        return reward
