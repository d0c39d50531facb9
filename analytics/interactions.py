"""Two experiments on the same listeners at once: whether each may be read as if the other were not there."""

from __future__ import annotations

import math
from typing import NamedTuple

import pandas as pd

from analytics.assignment import Assignment
from analytics.errors import AnalyticsError
from analytics.metrics import METRICS, user_metrics
from analytics.statistics.holm import holm
from analytics.statistics.interaction import interaction


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
        raise AnalyticsError("nobody takes part in both experiments; of one layer they cannot meet, and need no check")
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
