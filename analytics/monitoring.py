"""An experiment's users with CUPED applied to every metric."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from analytics.assignment import METRICS, Assignment, user_metrics
from analytics.errors import AnalyticsError
from analytics.statistics.cuped import cuped, interaction
from analytics.statistics.holm import holm
from analytics.statistics.sequence import ConfidenceSequence, running_sample


class AdjustedUsers(NamedTuple):
    """Users whose metrics are compared with less noise.

    Attributes
    ----------
    users : DataFrame
        As the users given, adjusted; for `analytics.experiment.effects_of`.
    variance_reduction : Series
        Share of the variance that is gone, by metric.
    """

    users: pd.DataFrame
    variance_reduction: pd.Series[float]


def adjust(users: pd.DataFrame, before: pd.DataFrame) -> AdjustedUsers:
    """Take out of each metric what the same metric was before the experiment.

    Parameters
    ----------
    users : DataFrame
        As `analytics.assignment.user_metrics`.
    before : DataFrame
        As `analytics.assignment.metrics_before`; users that it lacks keep their values.

    Examples
    --------
    >>> users = pd.DataFrame({"treatment": ["C", "C", "T1", "T1"], "time": [1.0, 2.0, 3.0, 4.0]})
    >>> adjusted = adjust(users, pd.DataFrame({"time": [0.0, 1.0, 0.0, 1.0]}))
    >>> adjusted.users["time"].tolist(), adjusted.variance_reduction.to_dict()
    ([1.5, 1.5, 3.5, 3.5], {'time': 1.0})
    """
    earlier = before.reindex(users.index)
    by_metric = {
        metric: cuped(users[metric], earlier[metric], users["treatment"]) for metric in users.columns.drop("treatment")
    }
    values = {metric: adjusted.values for metric, adjusted in by_metric.items()}
    reduction = {metric: adjusted.variance_reduction for metric, adjusted in by_metric.items()}
    return AdjustedUsers(users.assign(**values), pd.Series(reduction, name="variance_reduction"))


class Interactions(NamedTuple):
    """Whether the effects of two experiments add up.

    Attributes
    ----------
    users : int
        How many take part in both.
    table : DataFrame
        Indexed by metric: `statistic` (chi-square), `df`, `p_value` and `p_holm`, corrected for the number of metrics;
        NaN where a metric cannot be tested.
    """

    users: int
    table: pd.DataFrame

    def found(self, alpha: float = 0.05) -> list[str]:
        """Return the metrics in which the one experiment changes what the other does."""
        return [str(metric) for metric in self.table.index[self.table["p_holm"] < alpha]]


def interactions_of(sessions: pd.DataFrame, first: Assignment, second: Assignment) -> Interactions:
    """Test each of Botify's metrics among the users who take part in both experiments, while both run.

    Parameters
    ----------
    sessions : DataFrame
        As `analytics.sessions.sessions_of`.
    first, second : Assignment

    Raises
    ------
    AnalyticsError
        No combination of their treatments, or not every one, has users enough.
    """
    both = first.users.join(second.users.add_suffix("_second"), how="inner")
    both["since_ms"] = both[["since_ms", "since_ms_second"]].max(axis=1)
    together = Assignment(both[["treatment", "since_ms"]], min(first.until_ms, second.until_ms), mixed=0)
    users = user_metrics(sessions, together).join(both["treatment_second"])
    if users.empty:
        raise AnalyticsError(
            "no user takes part in both experiments; experiments of one layer exclude each other and need no check"
        )
    rows: dict[str, tuple[float, float, float]] = {}
    refusals = []
    for metric in METRICS:
        try:
            rows[metric] = interaction(users[metric], users["treatment"], users["treatment_second"])
        except AnalyticsError as refusal:
            rows[metric] = (math.nan, math.nan, math.nan)
            refusals.append(refusal)
    if len(refusals) == len(METRICS):
        raise refusals[0]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["statistic", "df", "p_value"])
    return Interactions(len(users), table.assign(p_holm=holm(table["p_value"])))


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
        As `analytics.assignment.user_metrics`, in the order of entering.
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
