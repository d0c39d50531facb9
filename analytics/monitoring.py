"""A running experiment: CUPED, interactions with another experiment, and intervals under repeated looks."""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from botify.analytics import AnalyticsError
from botify.analytics.assignment import METRICS, Assignment, user_metrics
from botify.analytics.statistics import ConfidenceSequence, cuped, holm, interaction, running_sample


class AdjustedUsers(NamedTuple):
    """Users with adjusted metrics."""

    users: pd.DataFrame  # for `botify.analytics.experiment.effects_of`
    variance_reduction: "pd.Series[float]"  # share of the variance that is removed, by metric


def adjust(users: pd.DataFrame, before: pd.DataFrame) -> AdjustedUsers:
    """Adjust each metric by the same one `before` the experiment (CUPED); users without a row there do not change."""
    earlier = before.reindex(users.index)
    by_metric = {
        metric: cuped(users[metric], earlier[metric], users["treatment"]) for metric in users.columns.drop("treatment")
    }
    values = {metric: adjusted.values for metric, adjusted in by_metric.items()}
    reduction = {metric: adjusted.variance_reduction for metric, adjusted in by_metric.items()}
    return AdjustedUsers(users.assign(**values), pd.Series(reduction, name="variance_reduction"))


class Interactions(NamedTuple):
    """Whether the effects of two experiments add up."""

    users: int  # number of users in both
    # indexed by metric: `statistic` (chi-square), `df`, `p_value` and `p_holm`, corrected for the number of metrics;
    # NaN for a metric that cannot be tested
    table: pd.DataFrame

    def found(self, alpha: float = 0.05) -> list[str]:
        """Return the metrics with an interaction."""
        return [str(metric) for metric in self.table.index[self.table["p_holm"] < alpha]]


def interactions_of(sessions: pd.DataFrame, first: Assignment, second: Assignment) -> Interactions:
    """Test Botify's metrics of the users in both experiments, while both run; raises `AnalyticsError` for too few."""
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
    """Compute `user_metrics` of each user's first `window_ms` in the experiment, in the order in which they entered.

    Users who are still within the window are left out: their values would change between two looks. Sessions that begin
    within it count in full.
    """
    since_ms = assignment.users["since_ms"]
    settled = since_ms[since_ms + window_ms <= assignment.until_ms].sort_values(kind="stable")
    within = sessions[sessions["started_ms"] < sessions["user"].map(settled) + window_ms]
    metrics = user_metrics(within, assignment)
    return metrics.loc[settled.index]


def running_difference(
    users: pd.DataFrame, metric: str, control: str, treatment: str, sequence: ConfidenceSequence
) -> pd.DataFrame:
    """Compare two treatments after each user, with intervals that are valid under repeated looks.

    `users` are in the order in which they entered. The result has a row for each: estimate, lower and upper, infinite
    during the burn-in. Raises `AnalyticsError` if no user had one of the treatments.
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
