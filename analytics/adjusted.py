"""An experiment's users with CUPED applied to every metric."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from analytics.statistics.cuped import cuped


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
        As `analytics.metrics.user_metrics`.
    before : DataFrame
        As `analytics.metrics.metrics_before`; users that it lacks keep their values.

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
