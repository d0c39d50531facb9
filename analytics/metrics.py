"""Sessions to one row a user: what an experiment compares, because users were split and not listens."""

from __future__ import annotations

import pandas as pd

from analytics.assignment import Assignment

METRICS = ("mean_time_per_session", "mean_tracks_per_session", "time", "sessions", "mean_request_latency")
"""Botify's metrics, by its names."""


def user_metrics(sessions: pd.DataFrame, assignment: Assignment) -> pd.DataFrame:
    """Compute Botify's metrics of each user who takes part, from the sessions that count (`sessions_in`).

    Parameters
    ----------
    sessions : DataFrame
        As `analytics.sessions.sessions_of`.
    assignment : Assignment

    Returns
    -------
    DataFrame
        Indexed by user: `treatment` and a column for each of `METRICS`. `time` is the sum of fractions heard,
        `mean_request_latency` in ms over all the user's requests (NaN where no answer was timed).
    """
    return assignment.users[["treatment"]].join(per_user(sessions_in(sessions, assignment)), how="inner")


def sessions_in(sessions: pd.DataFrame, assignment: Assignment) -> pd.DataFrame:
    """Keep the sessions that belong to an experiment.

    A user's sessions count from the one in which a treatment was first met until the experiment's last treated
    listen; sessions between them count even without a treatment, because coming back is part of the effect.
    """
    taking_part = sessions.join(assignment.users["since_ms"], on="user", how="inner")
    return taking_part[
        (taking_part["ended_ms"] >= taking_part["since_ms"]) & (taking_part["started_ms"] <= assignment.until_ms)
    ]


def metrics_before(sessions: pd.DataFrame, assignment: Assignment) -> pd.DataFrame:
    """Compute the same metrics from the sessions before each user took part: what CUPED may know.

    Returns
    -------
    DataFrame
        Indexed by user, a column for each of `METRICS`; users without earlier sessions are missing.
    """
    taking_part = sessions.join(assignment.users["since_ms"], on="user", how="inner")
    return per_user(taking_part[taking_part["ended_ms"] < taking_part["since_ms"]])


def per_user(sessions: pd.DataFrame) -> pd.DataFrame:
    """Compute the metrics from all the sessions given, whoever's they are.

    Parameters
    ----------
    sessions : DataFrame
        As `analytics.sessions.sessions_of`.

    Returns
    -------
    DataFrame
        Indexed by user, a column for each of `METRICS`.
    """
    totals = sessions.groupby("user").agg(
        time=("time", "sum"),
        sessions=("time", "size"),
        tracks=("tracks", "sum"),
        requests=("requests", "sum"),
        latency_ms=("latency_ms", "sum"),
    )
    return totals.assign(
        mean_time_per_session=totals["time"] / totals["sessions"],
        mean_tracks_per_session=totals["tracks"] / totals["sessions"],
        mean_request_latency=totals["latency_ms"] / totals["requests"].where(totals["requests"] > 0),
    )[list(METRICS)]
