"""Popularity of tracks over time: decayed sums for any half-life, and rising tracks.

The stream processor (`streams/folds/popularity.py`) keeps the same sum at the last moment only.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

HOUR_MS = 60 * 60 * 1000


def time_grid(listens: pd.DataFrame, step_ms: int = HOUR_MS) -> NDArray[np.int64]:
    """Return the full steps (UTC) from the first listen to the one after the last."""
    first, last = listens["timestamp_ms"].min() // step_ms, listens["timestamp_ms"].max() // step_ms
    return np.arange(first + 1, last + 2, dtype=np.int64) * step_ms


def popularity_over_time(
    listens: pd.DataFrame, half_life_ms: float, times_ms: ArrayLike, tracks: Sequence[int] | None = None
) -> pd.DataFrame:
    """Compute each track's popularity at ascending moments t: Σ fraction · 2^((tᵢ − t)/h) over its listens until t.

    The result has the index time (UTC), and a column for each of `tracks`, by default all that were heard.
    """
    moments = np.asarray(times_ms, dtype=np.int64)
    counted = listens if tracks is None else listens[listens["track"].isin(tracks)]
    columns = np.unique(counted["track"]) if tracks is None else np.asarray(tracks)
    order = np.argsort(columns)
    at = counted["timestamp_ms"].to_numpy()
    column = order[np.searchsorted(columns, counted["track"], sorter=order)]
    moment = np.searchsorted(moments, at)
    seen = moment < len(moments)
    weights = counted["fraction"].to_numpy()[seen] * np.exp2((at[seen] - moments[moment[seen]]) / half_life_ms)
    shape = (len(moments), len(columns))
    popularity = np.bincount(moment[seen] * shape[1] + column[seen], weights, shape[0] * shape[1]).reshape(shape)
    decay = np.exp2(-np.diff(moments) / half_life_ms)
    for row, kept in enumerate(decay, start=1):
        popularity[row] += kept * popularity[row - 1]
    index = pd.DatetimeIndex(pd.to_datetime(moments, unit="ms", utc=True), name="time")
    return pd.DataFrame(popularity, index=index, columns=pd.Index(columns, name="track"))


def rising(fast: pd.DataFrame, slow: pd.DataFrame, fast_ms: float, slow_ms: float) -> pd.DataFrame:
    """Score how far each track is above its expectation from its own past.

    A decayed sum P of half-life h estimates a rate of P · ln 2 / h. At the slow rate, the fast sum has the mean
    E = P_slow · h_fast / h_slow and the variance E / 2 (Campbell's theorem, for Poisson listens of whole tracks). The
    score is the excess in these standard deviations, with E at least one listen, so that one listen is no trend.

    `fast`, `slow`: as `popularity_over_time`, of the same moments and tracks.
    """
    expected = slow * (fast_ms / slow_ms)
    return (fast - expected) / (expected.clip(lower=1.0) / 2) ** 0.5


def share_found(scores: pd.DataFrame, wanted: pd.DataFrame, count: int) -> "pd.Series[float]":
    """Return for each moment the share of the wanted tracks among the best scores; NaN without wanted tracks.

    Examples
    --------
    >>> scores, wanted = pd.DataFrame({7: [3.0], 8: [2.0], 9: [1.0]}), pd.DataFrame({7: [True], 8: [False], 9: [True]})
    >>> share_found(scores, wanted, count=2).tolist()
    [0.5]
    """
    return (among_best(scores, count) & wanted).sum(axis=1) / wanted.sum(axis=1)


def first_among_best(scores: pd.DataFrame, since: pd.Series, count: int) -> pd.Series:
    """Return the time from `since`, indexed by track, until tracks were first among the best scores; NaT for never.

    Examples
    --------
    >>> times = pd.to_datetime([0, 10, 20], unit="ms", utc=True)
    >>> scores = pd.DataFrame({7: [2.0, 1.0, 1.0], 8: [1.0, 1.5, 2.0]}, index=times)
    >>> first_among_best(scores, pd.Series(times[0], index=[8]), count=1)[8]
    Timedelta('0 days 00:00:00.010000')
    """
    best = among_best(scores, count)
    waited = [
        named[0] - begin if len(named := best.index[best[track] & (best.index >= begin)]) else pd.NaT
        for track, begin in since.items()
    ]
    return pd.Series(waited, index=since.index, dtype="timedelta64[ns]")


def among_best(scores: pd.DataFrame, count: int) -> pd.DataFrame:
    """Say for each moment and track whether the score is among the best.

    Examples
    --------
    >>> among_best(pd.DataFrame({7: [3.0], 8: [2.0], 9: [1.0]}), count=2).to_numpy().tolist()
    [[True, True, False]]
    """
    best = np.argsort(-scores.to_numpy(), axis=1, kind="stable")[:, :count]
    among = np.zeros(scores.shape, dtype=np.bool_)
    np.put_along_axis(among, best, values=True, axis=1)
    return pd.DataFrame(among, index=scores.index, columns=scores.columns)


def hit_rate(popularity: pd.DataFrame, chosen: pd.DataFrame, count: int = 100) -> "pd.Series[float]":
    """Return for each moment the share of the choices until the next moment that are among its most popular tracks.

    The last moment is left out; NaN if nothing was chosen.
    """
    moments = pd.DatetimeIndex(popularity.index).as_unit("ms").asi8
    top = among_best(popularity, count).to_numpy()
    moment = np.searchsorted(moments, chosen["timestamp_ms"], side="left") - 1  # a choice at t is not known at t
    column = popularity.columns.get_indexer(pd.Index(chosen["track"]))
    counted = (moment >= 0) & (moment < len(moments) - 1)
    found = top[moment[counted], column[counted]] & (column[counted] >= 0)
    shares = pd.Series(found.astype(np.float64)).groupby(moment[counted]).mean()
    return shares.reindex(range(len(moments) - 1)).set_axis(popularity.index[:-1]).rename("hit rate")


def overlap(one: pd.DataFrame, other: pd.DataFrame, count: int = 100) -> float:
    """Return the share of the most popular tracks that two folds have in common, averaged over the moments."""
    return float((among_best(one, count) & among_best(other, count)).sum(axis=1).mean() / count)
