"""What is recommended at all: how much of the catalogue, how well known, to how even a share."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from analytics.offline.ranking import NO_TRACK

Popularity = NDArray[np.int64]
"""How often each track of the catalogue was listened to in the past, by track."""


def coverage(recommended: ArrayLike, tracks: int) -> float:
    """Return the share of the catalogue that was recommended to anybody.

    Parameters
    ----------
    recommended : array_like of int, shape (n, k)
        `NO_TRACK` where a list ends early.
    tracks : int
        How many the catalogue has.

    Examples
    --------
    >>> coverage([[0, 1], [1, 2]], tracks=10)
    0.3
    """
    shown = np.unique(np.asarray(recommended))
    return float(np.count_nonzero(shown != NO_TRACK)) / tracks


def novelty(recommended: ArrayLike, popularity: Popularity) -> NDArray[np.float64]:
    """Return for each user the mean surprise of the tracks, −log2 of a track's share of the listens, in bits.

    A track that nobody listened to is taken as listened to once, or it would be endlessly surprising
    (Zhou et al., PNAS 107, 2010).

    Examples
    --------
    >>> novelty([[0, 1]], np.array([2, 2])).tolist()
    [1.0]
    """
    listens = np.maximum(popularity, 1)
    return _mean_over_list(recommended, -np.log2(listens / listens.sum()))


def popularity_bias(recommended: ArrayLike, heard: NDArray[np.float64], popularity: Popularity) -> NDArray[np.float64]:
    """Return how much more popular each user's recommendations are than what the user listens to, as a ratio.

    1 keeps to the user's own taste for the popular, more pushes towards it (the popularity lift of Abdollahpouri et
    al., UMAP 2021, taken user by user).

    Parameters
    ----------
    recommended : array_like of int, shape (n, k)
    heard : ndarray of float64, shape (n,)
        Mean popularity of what each user listened to.
    popularity : ndarray of int64, shape (tracks,)

    Examples
    --------
    >>> popularity_bias([[0, 1]], np.array([5.0]), np.array([10, 20])).tolist()
    [3.0]
    """
    ratio: NDArray[np.float64] = _mean_over_list(recommended, popularity.astype(np.float64)) / heard
    return ratio


def popularity_percentile(recommended: ArrayLike, popularity: Popularity) -> NDArray[np.float64]:
    """Return for each user the mean percentile of the tracks by popularity: 100 is the most popular track.

    Examples
    --------
    >>> popularity_percentile([[0, 1]], np.array([5, 9, 1, 1])).tolist()
    [87.5]
    """
    percentiles = stats.rankdata(popularity, method="average") * (100.0 / len(popularity))
    return _mean_over_list(recommended, percentiles)


def gini(recommended: ArrayLike, tracks: int) -> float:
    """Return how unevenly recommendations fall on the catalogue: 0 on all tracks alike, near 1 on a single one.

    Examples
    --------
    >>> gini([[0, 1], [2, 3]], tracks=4), gini([[0], [0]], tracks=4)
    (0.0, 0.75)
    """
    shown = np.asarray(recommended).ravel()
    counts = np.sort(np.bincount(shown[shown != NO_TRACK], minlength=tracks))
    ranks = np.arange(1, tracks + 1)
    return float(((2 * ranks - tracks - 1) * counts).sum() / (tracks * counts.sum()))


def breadth_of(recommended: ArrayLike, heard: NDArray[np.float64], popularity: Popularity) -> pd.Series[float]:
    """Return coverage, Gini, and the mean novelty and popularity bias over users.

    Parameters
    ----------
    recommended, heard, popularity
        As for `popularity_bias`.

    Examples
    --------
    >>> breadth_of([[0, 1]], np.array([5.0]), np.array([10, 20])).round(2).tolist()
    [1.0, 0.0, 1.08, 3.0]
    """
    tracks = len(popularity)
    return pd.Series(
        {
            "coverage": coverage(recommended, tracks),
            "Gini": gini(recommended, tracks),
            "novelty, bits": float(np.nanmean(novelty(recommended, popularity))),
            "popularity bias": float(np.nanmean(popularity_bias(recommended, heard, popularity))),
        }
    )


def _mean_over_list(recommended: ArrayLike, value_of_track: NDArray[np.float64]) -> NDArray[np.float64]:
    lists = np.asarray(recommended)
    present = lists != NO_TRACK
    values = np.where(present, value_of_track[np.where(present, lists, 0)], 0.0)
    with np.errstate(invalid="ignore"):  # an empty list has no mean
        means: NDArray[np.float64] = values.sum(axis=1) / present.sum(axis=1)
    return means
