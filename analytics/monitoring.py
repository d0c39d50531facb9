"""Looking at a running experiment: users in the order in which they entered, each with a value that is final."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analytics.assignment import Assignment
from analytics.errors import AnalyticsError
from analytics.metrics import user_metrics
from analytics.statistics.sequence import ConfidenceSequence, running_sample


def settled_users(sessions: pd.DataFrame, assignment: Assignment, window_ms: int) -> pd.DataFrame:
    """Compute the metrics of each user's first `window_ms` in the experiment, once it is over.

    A user who is still within the window is left out: their value would change between two looks, and the same
    evidence would be counted again.

    Parameters
    ----------
    sessions : DataFrame
        As `analytics.sessions.sessions_of`; those begun within the window count whole.
    assignment : Assignment
    window_ms : int
        The same for everybody.

    Returns
    -------
    DataFrame
        As `analytics.metrics.user_metrics`, in the order of entering.
    """
    since_ms = assignment.users["since_ms"]
    settled = since_ms[since_ms + window_ms <= assignment.until_ms].sort_values(kind="stable")
    within = sessions[sessions["started_ms"] < sessions["user"].map(settled) + window_ms]
    metrics = user_metrics(within, assignment)
    return metrics.loc[settled.index]


def running_difference(
    users: pd.DataFrame, metric: str, control: str, treatment: str, sequence: ConfidenceSequence
) -> pd.DataFrame:
    """Compare two treatments after every user, with intervals that are valid at all looks together.

    Parameters
    ----------
    users : DataFrame
        In the order of entering: `treatment` and the metric.
    metric, control, treatment : str
    sequence : ConfidenceSequence

    Returns
    -------
    DataFrame
        One row a user: estimate, lower and upper, in the metric's unit; the interval is endless during the burn-in.

    Raises
    ------
    AnalyticsError
        Nobody had one of the treatments.

    Examples
    --------
    >>> users = pd.DataFrame({"treatment": ["C", "T1"] * 100, "time": [0.0, 1.0, 0.2, 1.2] * 50})
    >>> looks = running_difference(users, "time", "C", "T1", ConfidenceSequence(tuned_for=200))
    >>> bool((looks["lower"] > 0).iloc[-1]), float(looks["estimate"].iloc[-1])
    (True, 1.0)
    """
    counted = users[users["treatment"].isin([control, treatment]) & users[metric].notna()]
    of_treatment = (counted["treatment"] == treatment).to_numpy()
    if not of_treatment.any() or of_treatment.all():
        raise AnalyticsError(f"users of both {control!r} and {treatment!r} with a {metric} are needed")
    values = counted[metric].to_numpy(np.float64)
    before, after = running_sample(values, ~of_treatment), running_sample(values, of_treatment)
    estimate = after.mean - before.mean
    half = sequence.half_width(before, after)
    return pd.DataFrame(
        {"estimate": estimate, "lower": estimate - half, "upper": estimate + half}, index=counted.index
    ).fillna({"lower": -np.inf, "upper": np.inf})
