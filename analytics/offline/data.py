"""Logged decisions, target policies that draw uniformly from a list, and a reward model of tracks.

The list (popular tracks, an artist's, a track's neighbours, a listener's own) gives the policy's probability of any
track, and so the weight of a logged decision.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from botify.analytics.offline.ranking import NO_TRACK

Floats = NDArray[np.float64]
Lists = NDArray[np.int64]
"""(decisions, k): the tracks from which each decision is drawn; `NO_TRACK` after the end of a list."""


def logged_decisions(listens: pd.DataFrame) -> pd.DataFrame:
    """Return the recommendations that were played, each with the track before it.

    A listen of a slate is among them, but its listener chose it from several: `analytics.offline.slates` is for those.

    `listens`: as `botify.analytics.data.listens_frame`, without copies.
    The result has one row for each recommendation with a propensity: user, session_id, position, timestamp_ms, previous
    (the track before it), track, reward (the fraction heard) and propensity.
    """
    ordered = listens.sort_values(["user", "session_id", "position"], kind="stable", ignore_index=True)
    before = ordered.shift(1)
    follows = (
        (before["user"] == ordered["user"])
        & (before["session_id"] == ordered["session_id"])
        & (before["position"] + 1 == ordered["position"])
    )
    decided = ordered[follows & ordered["propensity"].notna()]
    return pd.DataFrame(
        {
            **{name: decided[name] for name in ("user", "session_id", "position", "timestamp_ms")},
            "previous": before["track"][decided.index].astype(np.int64),
            "track": decided["track"],
            "reward": decided["fraction"],
            "propensity": decided["propensity"],
        }
    ).reset_index(drop=True)


def probability(lists: Lists, tracks: ArrayLike, otherwise: float) -> Floats:
    """Return the probability with which each track is drawn from its list.

    Parameters
    ----------
    lists : ndarray of int64, shape (n, k)
        No track twice in a row.
    tracks : array_like of int, shape (n,)
    otherwise : float
        Probability of each track if the list is empty: that of the policy's fallback.
    """
    sizes = (lists != NO_TRACK).sum(axis=1)
    hits = (lists == np.asarray(tracks)[:, None]).any(axis=1)
    return np.where(sizes > 0, hits / np.maximum(sizes, 1), otherwise)


def mean_over_list(lists: Lists, values: Floats, otherwise: ArrayLike) -> Floats:
    """Return the mean of a value over each list: that of a reward model, say, under the policy.

    Parameters
    ----------
    lists : ndarray of int64, shape (n, k)
    values : ndarray of float64, shape (n, k)
        Of each track of each list; those at `NO_TRACK` are left out.
    otherwise : array_like of float, shape (n,) or a number
        Mean of an empty list.
    """
    present = lists != NO_TRACK
    sizes = present.sum(axis=1)
    sums = np.where(present, values, 0.0).sum(axis=1)
    return np.where(sizes > 0, sums / np.maximum(sizes, 1), otherwise)


def padded(groups: list[NDArray[np.int64]]) -> Lists:
    """Return lists of different lengths as one array."""
    lists = np.full((len(groups), max((len(group) for group in groups), default=0)), NO_TRACK, dtype=np.int64)
    for row, group in enumerate(groups):
        lists[row, : len(group)] = group
    return lists


PRIOR_DECISIONS = 20
"""Decisions of average reward that are added to each track's own, as a prior."""

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RewardModel:
    """Mean reward of each track, plus a bonus if it is by the artist just heard."""

    artist_of: Ints  # shape (tracks,); by track id
    quality: Floats  # shape (tracks,); mean reward of each track, shrunk towards the mean of all
    same_artist: float

    @classmethod
    def fit(cls, decisions: pd.DataFrame, artist_of: Ints) -> Self:
        """Fit the model to decisions other than those to evaluate.

        `artist_of`: shape (tracks,); by track id.

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
        """Return the reward of each track, given the track before it.

        `previous`: shape (n,).
        `tracks`: shape (n, k); at `NO_TRACK` the result is the mean reward.
        """
        known = np.where(tracks == NO_TRACK, 0, tracks)
        same = (self.artist_of[known] == self.artist_of[previous][:, None]) & (tracks != NO_TRACK)
        reward: Floats = self.quality[known] + self.same_artist * same
        reward[tracks == NO_TRACK] = self.quality.mean()
        return reward
