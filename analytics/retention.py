"""Who comes back: retention over days, for each user, so that it is compared like any other metric."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

DAY_MS = 24 * 60 * 60 * 1000


def retention(sessions: pd.DataFrame, days: Sequence[int] = (1, 7, 28)) -> pd.DataFrame:
    """Say for each user whether they came back on a day after their first session.

    Day d is the time from 24·d to 24·(d + 1) hours after the user's first session: it has the same length for
    everybody, wherever midnight was.

    Parameters
    ----------
    sessions : DataFrame
        With the columns user, started_ms and ended_ms, from the users' first day on.
    days : sequence of int
        From 1.

    Returns
    -------
    DataFrame
        Indexed by user, a column `retention_day_<d>` for each day: 1.0 came back, 0.0 did not, NaN where the day was
        not over when the data ends. Those are left out by everyone: they would make late comers look unfaithful.

    Examples
    --------
    >>> sessions = pd.DataFrame({"user": [1, 1, 2], "started_ms": [0, DAY_MS + 5, 2], "ended_ms": [9, 2 * DAY_MS, 3]})
    >>> retention(sessions, days=[1]).to_dict("index")
    {1: {'retention_day_1': 1.0}, 2: {'retention_day_1': nan}}
    """
    first_ms = sessions.groupby("user")["started_ms"].min()
    day = (sessions["started_ms"] - sessions["user"].map(first_ms)) // DAY_MS
    data_ends_ms = sessions["ended_ms"].max()
    columns = {}
    for d in days:
        came_back = first_ms.index.isin(sessions["user"][day == d].unique())
        over = first_ms + (d + 1) * DAY_MS <= data_ends_ms
        columns[f"retention_day_{d}"] = np.where(over, came_back.astype(np.float64), np.nan)
    return pd.DataFrame(columns, index=first_ms.index)
