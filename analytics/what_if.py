"""Comparing folds: which popularity foretells what people choose, and how much two of them agree."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analytics.popularity import among_best


def foretold(popularity: pd.DataFrame, chosen: pd.DataFrame, count: int = 100) -> pd.Series[float]:
    """Return for each moment the share of the choices until the next one that its most popular tracks foretell.

    Parameters
    ----------
    popularity : DataFrame
        As `analytics.popularity.popularity_over_time`.
    chosen : DataFrame
        With track and timestamp_ms.
    count : int
        How many tracks are foretold.

    Returns
    -------
    Series
        Indexed as the popularity without its last moment; NaN where nothing was chosen.

    Examples
    --------
    >>> times = pd.to_datetime([0, 10, 20], unit="ms", utc=True)
    >>> popularity = pd.DataFrame({7: [2.0, 1.0, 0.0], 8: [1.0, 2.0, 0.0]}, index=times)
    >>> chosen = pd.DataFrame({"track": [7, 8, 7], "timestamp_ms": [5, 6, 15]})
    >>> foretold(popularity, chosen, count=1).tolist()
    [0.5, 0.0]
    """
    moments = pd.DatetimeIndex(popularity.index).as_unit("ms").asi8
    top = among_best(popularity, count).to_numpy()
    moment = np.searchsorted(moments, chosen["timestamp_ms"], side="left") - 1  # a choice at t is known only after t
    column = popularity.columns.get_indexer(pd.Index(chosen["track"]))
    counted = (moment >= 0) & (moment < len(moments) - 1)
    found = top[moment[counted], column[counted]] & (column[counted] >= 0)
    shares = pd.Series(found.astype(np.float64)).groupby(moment[counted]).mean()
    return shares.reindex(range(len(moments) - 1)).set_axis(popularity.index[:-1]).rename("foretold")


def overlap(one: pd.DataFrame, other: pd.DataFrame, count: int = 100) -> float:
    """Return the share of the most popular tracks that two folds have in common, averaged over the moments.

    Parameters
    ----------
    one, other : DataFrame
        As `analytics.popularity.popularity_over_time`, of the same moments and tracks.
    count : int

    Examples
    --------
    >>> overlap(pd.DataFrame({7: [2.0], 8: [1.0], 9: [0.0]}), pd.DataFrame({7: [1.0], 8: [0.0], 9: [2.0]}), count=2)
    0.5
    """
    return float((among_best(one, count) & among_best(other, count)).sum(axis=1).mean() / count)
