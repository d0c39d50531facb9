"""From sessions to the decision about a launch: settled listeners for the rule, first sessions for early losses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from botify.analytics import AnalyticsError
from botify.analytics.assignment import Assignment, metrics_before, per_user
from botify.analytics.decision import ROLL_BACK, Decision, Rule, decide
from botify.analytics.experiment import HOUR_MS
from botify.analytics.monitoring import adjust, settled_users
from botify.analytics.planning import decision_users
from botify.core.goals import Goals
from botify.core.welch import Sample
from botify.services.experiments import Experiment
from botify.streams.folds.sessions import GAP_MS

OF_FIRST_SESSION = ("mean_time_per_session", "mean_tracks_per_session", "mean_request_latency")
"""Metrics that a single session has."""
FEWEST = 100
"""Settled listeners from which the horizon can be planned."""
UNPLANNED = 1_000_000


@dataclass(frozen=True, slots=True)
class Judge:
    """How a launch is judged.

    Attributes
    ----------
    experiment : Experiment
        With goals; the first of its treatments, or the one named `C`, is the control.
    effect : float
        The smallest relevant improvement, as a share of the control's mean.
    window_h : float
        Hours of each listener that are compared, in event time.
    listeners : int, optional
        Horizon; by default planned from the spread of the settled listeners, pooled within the arms: it does not
        depend on the effect, so it may be planned again at each look (Friede and Kieser, Statistics in Medicine 25,
        2006).
    """

    experiment: Experiment
    effect: float = 0.02
    window_h: float = 24.0
    alpha: float = 0.05
    listeners: int | None = None

    @property
    def control(self) -> str:
        """Name of the control."""
        names = list(self.shares)
        return "C" if "C" in names else names[0]

    @property
    def treatments(self) -> list[str]:
        """Names of the other arms."""
        return [name for name in self.shares if name != self.control]

    @property
    def shares(self) -> dict[str, float]:
        """Name of each arm to its share."""
        return {arm.name: share for arm, share in self.experiment.shares().items()}

    @property
    def goals(self) -> Goals:
        """The declared goals; raises `AnalyticsError` without any."""
        if self.experiment.goals is None:
            raise AnalyticsError(
                f'experiment {self.experiment.name} declares no goals; add success = ["mean_time_per_session"] and '
                "guardrails to the experiments file"
            )
        return self.experiment.goals

    def decisions(self, sessions: pd.DataFrame, assignment: Assignment) -> list[Decision]:
        """Decide about each treatment from the listeners whose window is over.

        Parameters
        ----------
        sessions : DataFrame
            As `botify.analytics.sessions.sessions_of`, with those from before the experiment.
        """
        users = settled_users(sessions, assignment, round(self.window_h * HOUR_MS))
        users = users.assign(treatment=users["treatment"].astype(str))
        if len(users):
            users = adjust(users, metrics_before(sessions, assignment)).users
        recommenders = {arm.name: arm.recommender for arm in self.experiment.shares() if arm.recommender}
        rule = Rule(self.goals, self._horizon(users), self.alpha, treatments=len(self.treatments))
        return [decide(users, name, rule, self.control, self.shares, recommenders) for name in self.treatments]

    def early(self, sessions: pd.DataFrame, assignment: Assignment) -> list[Decision]:
        """Return the decisions against treatments that the listeners' first sessions already show to be worse.

        A bad treatment need not wait until windows are over.
        """
        users = first_sessions(sessions, assignment)
        if users.empty:
            return []
        users = adjust(users, metrics_before(sessions, assignment)).users
        success = tuple(name for name in self.goals.success if name in users) or OF_FIRST_SESSION[:1]
        guardrails = {name: margin for name, margin in self.goals.guardrails.items() if name in users}
        rule = Rule(Goals(success, guardrails), UNPLANNED, self.alpha, treatments=len(self.treatments), strict=True)
        # sessions of a slower arm are over later, so their numbers say nothing about the split
        over = users["treatment"].value_counts()
        split = {name: float(over.get(name, 1)) for name in self.shares}
        found = [decide(users, name, rule, self.control, split) for name in self.treatments]
        return [one for one in found if one.outcome == ROLL_BACK]

    def _horizon(self, users: pd.DataFrame) -> int:
        if self.listeners is not None:
            return self.listeners
        spread = spread_of(users, (*self.goals.success, *self.goals.guardrails))
        if len(users) < FEWEST or not all(np.isfinite(value) for value in spread.values()):
            return UNPLANNED
        return decision_users(self.goals, spread, self.effect, alpha=self.alpha, treatments=len(self.treatments))


def spread_of(users: pd.DataFrame, metrics: tuple[str, ...]) -> Mapping[str, float]:
    """Return each metric's standard deviation within the arms over its mean.

    Examples
    --------
    >>> spread_of(pd.DataFrame({"treatment": ["C", "C", "T1", "T1"], "time": [1.0, 3.0, 2.0, 4.0]}), ("time",))
    {'time': 0.565...}
    """
    found = {}
    for metric in metrics:
        samples = [Sample.of(group) for _, group in users.groupby("treatment", observed=True)[metric]]
        n = sum(sample.n for sample in samples)
        mean = sum(sample.n * sample.mean for sample in samples if sample.n) / n if n else np.nan
        variance = sum(sample.n * sample.variance for sample in samples if sample.n) / n if n else np.nan
        found[metric] = float(np.sqrt(variance) / abs(mean)) if mean else np.nan
    return found


def first_sessions(sessions: pd.DataFrame, assignment: Assignment) -> pd.DataFrame:
    """Return the metrics of each listener's first session in the experiment, if it is over.

    Returns
    -------
    DataFrame
        In the order in which listeners entered: `treatment` and `OF_FIRST_SESSION`.
    """
    taking_part = sessions.join(assignment.users["since_ms"], on="user", how="inner")
    within = taking_part[taking_part["ended_ms"] >= taking_part["since_ms"]].sort_values("started_ms", kind="stable")
    first = within.drop_duplicates("user")
    over = first[first["ended"] | (first["ended_ms"] + GAP_MS <= assignment.until_ms)]
    metrics = per_user(over)[list(OF_FIRST_SESSION)]
    users = assignment.users.join(metrics, how="inner").sort_values("since_ms", kind="stable")
    return users.assign(treatment=users["treatment"].astype(str)).drop(columns="since_ms")
