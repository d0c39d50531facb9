"""Listens to sessions."""

from __future__ import annotations

from typing import Literal

import pandas as pd

CutOff = Literal["keep", "drop"]


def sessions_of(listens: pd.DataFrame, cut_off: CutOff = "keep") -> pd.DataFrame:
    """Add up each session's listens.

    Parameters
    ----------
    listens : DataFrame
        With the columns user, session_id, timestamp_ms, fraction, ended_session and latency_ms.
    cut_off : {"keep", "drop"}
        What becomes of a session whose end was not seen: it goes on, or an answer never came. It is kept, because
        what was heard was heard, and because leaving it out is not neutral: the longer sessions are, the more of
        them the end of the data cuts off, and a recommender that loses answers would be judged by the sessions it
        did not lose. `drop` is what Botify's notebook does.

    Returns
    -------
    DataFrame
        One row a session: user, session_id, started_ms, ended_ms, tracks, time (sum of fractions), ended (whether
        its end was seen), requests (how many answers were timed) and latency_ms (their sum).

    Examples
    --------
    >>> listens = pd.DataFrame({
    ...     "user": 7, "session_id": ["a", "a"], "timestamp_ms": [0, 9], "fraction": [1.0, 0.5],
    ...     "ended_session": [False, True], "latency_ms": [None, 2.0]})
    >>> sessions_of(listens)[["tracks", "time", "requests"]].to_dict("list")
    {'tracks': [2], 'time': [1.5], 'requests': [1]}
    """
    sessions = (
        listens.groupby(["user", "session_id"], observed=True, sort=False)
        .agg(
            started_ms=("timestamp_ms", "min"),
            ended_ms=("timestamp_ms", "max"),
            tracks=("fraction", "size"),
            time=("fraction", "sum"),
            ended=("ended_session", "max"),
            requests=("latency_ms", "count"),
            latency_ms=("latency_ms", "sum"),
        )
        .reset_index()
    )
    return sessions if cut_off == "keep" else sessions[sessions["ended"]].reset_index(drop=True)
