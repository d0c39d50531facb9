"""Recommended lists against later listens: accuracy for each user, and diversity over the catalogue."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from botify.analytics import AnalyticsError

NO_TRACK = -1  # fills the end of a short list


class Rankings(NamedTuple):
    """Recommended lists and their hits."""

    users: NDArray[np.int64]  # shape (u,); those who liked any track
    hits: NDArray[np.bool_]  # shape (u, k); whether the user liked the track at each rank, best first
    liked: NDArray[np.int64]  # shape (u,); number of tracks that the user liked, recommended or not


def judge(users: ArrayLike, recommended: ArrayLike, liked: pd.DataFrame) -> Rankings:
    """Mark each recommended track that its user liked.

    `recommended`, shape (n, k), has each user's tracks, best first; `liked` the columns user and track, from the
    future, where duplicates count once. Raises `AnalyticsError` if the shapes do not fit, or a list has a track twice.
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
    """Return 1 for users who liked any of the first k tracks, else 0."""
    return np.asarray(_first(rankings, k).any(axis=1), dtype=np.float64)


def reciprocal_rank(rankings: Rankings, k: int) -> NDArray[np.float64]:
    """Return 1 / rank of the first liked track, 0 if none of the first k is liked; the mean is MRR."""
    hits = _first(rankings, k)
    return np.asarray(hits.any(axis=1) / (hits.argmax(axis=1) + 1.0))


def ndcg(rankings: Rankings, k: int) -> NDArray[np.float64]:
    """Return the discounted gain relative to that of the best order (Järvelin and Kekäläinen, TOIS 20, 2002).

    A liked track at rank r gains 1 / log2(r + 1); the best order begins with all liked tracks.
    """
    hits = _first(rankings, k)
    gains = 1.0 / np.log2(np.arange(k) + 2.0)
    best = np.cumsum(gains)[np.minimum(rankings.liked, k) - 1]
    return np.asarray(hits @ gains[: hits.shape[1]] / best)


def metrics_at(rankings: Rankings, k: int) -> pd.DataFrame:
    """Return hit rate, MRR and NDCG of each user.

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
    """Listens before a moment, and from it on."""

    past: pd.DataFrame
    future: pd.DataFrame


def temporal_split(listens: pd.DataFrame, future_share: float = 0.2) -> TemporalSplit:
    """Split listens at one moment for all users; those of the same millisecond stay together, in the future.

    A random split, or one for each user, would leak the future of other users into training (Ji, Sun, Zhang and Li, "A
    critical study on data leakage", TOIS 41, 2023). Raises `AnalyticsError` if the share is out of range, or one part
    would be empty.
    """
    if not 0 < future_share < 1:
        raise AnalyticsError(f"the future's share {future_share} must be between 0 and 1")
    moment = listens["timestamp_ms"].quantile(1 - future_share, interpolation="higher") if len(listens) else 0
    in_past = listens["timestamp_ms"] < moment
    past, future = listens[in_past], listens[~in_past]
    if past.empty or future.empty:
        raise AnalyticsError(f"{len(listens):,} listens cannot be split with {future_share:.0%} in the future")
    return TemporalSplit(past, future)


Popularity = NDArray[np.int64]  # number of past listens of each track of the catalogue


def coverage(recommended: ArrayLike, tracks: int) -> float:
    """Return the share of the catalogue that was recommended; lists have shape (n, k)."""
    shown = np.unique(np.asarray(recommended))
    return float(np.count_nonzero(shown != NO_TRACK)) / tracks


def novelty(recommended: ArrayLike, popularity: Popularity) -> NDArray[np.float64]:
    """Return each user's mean surprise in bits: −log2 of a track's share of the listens.

    Tracks without listens count as having one, or their surprise would be infinite (Zhou et al., PNAS 107, 2010).
    """
    listens = np.maximum(popularity, 1)
    return _mean_over_list(recommended, -np.log2(listens / listens.sum()))


def popularity_bias(recommended: ArrayLike, heard: NDArray[np.float64], popularity: Popularity) -> NDArray[np.float64]:
    """Return the popularity of each user's recommendations relative to that of the user's listens.

    Above 1 the recommendations are more popular (the popularity lift of Abdollahpouri et al., UMAP 2021, for each
    user). `heard`, shape (n,), is the mean popularity of each user's listens.
    """
    return np.asarray(_mean_over_list(recommended, popularity.astype(np.float64)) / heard)


def popularity_percentile(recommended: ArrayLike, popularity: Popularity) -> NDArray[np.float64]:
    """Return for each user the mean percentile of the tracks by popularity: 100 is the most popular track."""
    percentiles = stats.rankdata(popularity, method="average") * (100.0 / len(popularity))
    return _mean_over_list(recommended, percentiles)


def gini(recommended: ArrayLike, tracks: int) -> float:
    """Return the Gini index of recommendations over the catalogue: 0 if uniform, near 1 if all are of one track."""
    shown = np.asarray(recommended).ravel()
    counts = np.sort(np.bincount(shown[shown != NO_TRACK], minlength=tracks))
    ranks = np.arange(1, tracks + 1)
    return float(((2 * ranks - tracks - 1) * counts).sum() / (tracks * counts.sum()))


def diversity_of(recommended: ArrayLike, heard: NDArray[np.float64], popularity: Popularity) -> "pd.Series[float]":
    """Return coverage, Gini, and the mean novelty and popularity bias over users.

    Examples
    --------
    >>> diversity_of([[0, 1]], np.array([5.0]), np.array([10, 20])).round(2).tolist()
    [1.0, 0.0, 1.08, 3.0]
    """
    tracks = len(popularity)
    of_catalogue = {"coverage": coverage(recommended, tracks), "Gini": gini(recommended, tracks)}
    bits, bias = novelty(recommended, popularity), popularity_bias(recommended, heard, popularity)
    return pd.Series(
        {**of_catalogue, "novelty, bits": float(np.nanmean(bits)), "popularity bias": float(np.nanmean(bias))}
    )


def _mean_over_list(recommended: ArrayLike, value_of_track: NDArray[np.float64]) -> NDArray[np.float64]:
    lists = np.asarray(recommended)
    present = lists != NO_TRACK
    values = np.where(present, value_of_track[np.where(present, lists, 0)], 0.0)
    with np.errstate(invalid="ignore"):  # an empty list has no mean
        means: NDArray[np.float64] = values.sum(axis=1) / present.sum(axis=1)
    return means
