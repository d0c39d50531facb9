"""The past to learn from, the future to be judged by."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from analytics.errors import AnalyticsError


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
