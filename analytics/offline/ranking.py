"""How well a ranking foretells what users liked: one number for each user, so that intervals come free."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from analytics.errors import AnalyticsError

NO_TRACK = -1
"""Fills the end of a list that is shorter than the others."""


class Rankings(NamedTuple):
    """Recommended lists with what became of them.

    Attributes
    ----------
    users : ndarray of int64, shape (u,)
        Those who liked anything; for the others no list is right or wrong.
    hits : ndarray of bool, shape (u, k)
        Whether the user liked the track at each rank, best first.
    liked : ndarray of int64, shape (u,)
        How many tracks the user liked, recommended or not.
    """

    users: NDArray[np.int64]
    hits: NDArray[np.bool_]
    liked: NDArray[np.int64]


def judge(users: ArrayLike, recommended: ArrayLike, liked: pd.DataFrame) -> Rankings:
    """Look each recommended track up among those that its user liked.

    Parameters
    ----------
    users : array_like of int, shape (n,)
    recommended : array_like of int, shape (n, k)
        Each user's tracks, best first; `NO_TRACK` where a list ends early.
    liked : DataFrame
        Columns user and track, from the future; a pair that comes twice counts once.

    Raises
    ------
    AnalyticsError
        The shapes do not fit, or a list has a track twice (it could be right twice).

    Examples
    --------
    >>> judge([1, 2], [[10, 20], [10, 30]], pd.DataFrame({"user": [1, 1], "track": [20, 50]})).hits.tolist()
    [[False, True]]
    """
    user_ids, lists = np.asarray(users, dtype=np.int64), np.asarray(recommended, dtype=np.int64)
    if lists.ndim != 2 or len(lists) != len(user_ids):
        raise AnalyticsError(f"{len(user_ids)} users need as many lists, not an array of shape {lists.shape}")
    in_order = np.sort(lists, axis=1)
    twice = (in_order[:, 1:] == in_order[:, :-1]) & (in_order[:, 1:] != NO_TRACK)
    if twice.any():
        raise AnalyticsError(f"the list of user {user_ids[twice.any(axis=1)][0]} has a track twice")
    pairs = liked[["user", "track"]].drop_duplicates()
    counts = pairs.groupby("user").size()
    judged = np.isin(user_ids, counts.index)
    user_ids, lists = user_ids[judged], lists[judged]
    asked = pd.MultiIndex.from_arrays([np.repeat(user_ids, lists.shape[1]), lists.ravel()])
    hits = asked.isin(pd.MultiIndex.from_frame(pairs)).reshape(lists.shape)
    return Rankings(user_ids, hits & (lists != NO_TRACK), np.asarray(counts.reindex(user_ids), dtype=np.int64))


def hit_rate(rankings: Rankings, k: int) -> NDArray[np.float64]:
    """Return 1 for each user who liked any of the first k tracks, 0 for the others.

    Examples
    --------
    >>> hit_rate(Rankings(np.array([1]), np.array([[False, True]]), np.array([1])), k=2).tolist()
    [1.0]
    """
    return np.asarray(_first(rankings, k).any(axis=1), dtype=np.float64)


def reciprocal_rank(rankings: Rankings, k: int) -> NDArray[np.float64]:
    """Return 1 / rank of the first track that the user liked, 0 where none of the first k is (their mean is MRR).

    Examples
    --------
    >>> reciprocal_rank(Rankings(np.array([1]), np.array([[False, True]]), np.array([1])), k=2).tolist()
    [0.5]
    """
    hits = _first(rankings, k)
    per_user: NDArray[np.float64] = hits.any(axis=1) / (hits.argmax(axis=1) + 1.0)
    return per_user


def ndcg(rankings: Rankings, k: int) -> NDArray[np.float64]:
    """Return the discounted gain over that of the best order (Järvelin and Kekäläinen, TOIS 20, 2002).

    A liked track at rank r gains 1 / log2(r + 1); the best order begins with all tracks that the user liked.

    Examples
    --------
    >>> ndcg(Rankings(np.array([1]), np.array([[True, False]]), np.array([5])), k=2).round(3).tolist()
    [0.613]
    """
    hits = _first(rankings, k)
    gains = 1.0 / np.log2(np.arange(k) + 2.0)
    best = np.cumsum(gains)[np.minimum(rankings.liked, k) - 1]
    per_user: NDArray[np.float64] = np.asarray(hits @ gains[: hits.shape[1]] / best)
    return per_user


def metrics_at(rankings: Rankings, k: int) -> pd.DataFrame:
    """Return all three for each user.

    Examples
    --------
    >>> metrics_at(Rankings(np.array([1]), np.array([[False, True]]), np.array([1])), k=2).round(3).to_dict("records")
    [{'hit rate': 1.0, 'MRR': 0.5, 'NDCG': 0.631}]
    """
    values = {"hit rate": hit_rate(rankings, k), "MRR": reciprocal_rank(rankings, k), "NDCG": ndcg(rankings, k)}
    return pd.DataFrame(values, index=pd.Index(rankings.users, name="user"))


def _first(rankings: Rankings, k: int) -> NDArray[np.bool_]:
    if k < 1:
        raise AnalyticsError(f"k is {k}; it must be 1 or more")
    return rankings.hits[:, :k]


class TemporalSplit(NamedTuple):
    """Listens before a moment, and those from it on."""

    past: pd.DataFrame
    future: pd.DataFrame


def temporal_split(listens: pd.DataFrame, future_share: float = 0.2) -> TemporalSplit:
    """Split listens at one moment for everybody.

    A split for each user, or at random, would let a recommender learn from what others did after the moment for
    which it recommends (Ji, Sun, Zhang and Li, "A critical study on data leakage", TOIS 41, 2023).

    Parameters
    ----------
    listens : DataFrame
        With timestamp_ms.
    future_share : float
        Share of the listens that come after the moment, between 0 and 1; listens of the same millisecond stay
        together, in the future.

    Raises
    ------
    AnalyticsError
        The share is out of range, or no listen is left for the past or the future.

    Examples
    --------
    >>> past, future = temporal_split(pd.DataFrame({"timestamp_ms": [5, 1, 2, 4, 3]}), future_share=0.4)
    >>> past["timestamp_ms"].tolist(), future["timestamp_ms"].tolist()
    ([1, 2, 3], [5, 4])
    """
    if not 0 < future_share < 1:
        raise AnalyticsError(f"the future's share {future_share} must be between 0 and 1")
    moment = listens["timestamp_ms"].quantile(1 - future_share, interpolation="higher") if len(listens) else 0
    in_past = listens["timestamp_ms"] < moment
    past, future = listens[in_past], listens[~in_past]
    if past.empty or future.empty:
        raise AnalyticsError(f"{len(listens):,} listens cannot be split with {future_share:.0%} in the future")
    return TemporalSplit(past, future)
