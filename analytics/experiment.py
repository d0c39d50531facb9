"""From listens to Botify's table: which treatment kept people listening longer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import pandas as pd

from analytics.assignment import assign, user_metrics
from analytics.errors import AnalyticsError
from analytics.sessions import CutOff, sessions_of
from analytics.statistics.holm import holm
from analytics.statistics.power import SampleRatio, sample_ratio
from core.welch import Difference, Sample, welch

CONTROL = "C"
"""Botify's name of the control."""

Comparison = Callable[[Sample, Sample], Difference]
"""Control and treatment to the difference: `welch`, or the `difference` of a `ConfidenceSequence`."""


class Effect(NamedTuple):
    """What a treatment did to a metric.

    Attributes
    ----------
    treatment, metric : str
    control_users, treatment_users : int
        How many users have the metric.
    control_mean, treatment_mean : float
    effect, lower, upper : float
        Difference of the means and its interval in % of the control's mean, which is taken as known; NaN where that
        mean is zero.
    p_value : float
        Of there being no difference.
    p_holm : float
        The same, corrected for how many metrics and treatments the experiment compares; below alpha, the finding
        can be believed whichever row one looks at.
    significant : bool
        Whether the interval leaves out zero.
    """

    treatment: str
    metric: str
    control_users: int
    treatment_users: int
    control_mean: float
    treatment_mean: float
    effect: float
    lower: float
    upper: float
    p_value: float
    p_holm: float
    significant: bool


class ExperimentResults(NamedTuple):
    """An experiment's results.

    Attributes
    ----------
    name : str
    control : str
        Treatment that the others are compared with.
    users : DataFrame
        As `analytics.assignment.user_metrics`.
    effects : list of Effect
        One for each treatment and metric.
    ratio : SampleRatio
        Whether the users split as declared; where they did not, believe nothing else.
    mixed : int
        Users left out because they were seen in more than one treatment.
    """

    name: str
    control: str
    users: pd.DataFrame
    effects: list[Effect]
    ratio: SampleRatio
    mixed: int

    @property
    def table(self) -> pd.DataFrame:
        """Botify's table: a row for each effect."""
        return pd.DataFrame(self.effects, columns=Effect._fields)


def experiment_results(
    listens: pd.DataFrame,
    name: str,
    control: str = CONTROL,
    alpha: float = 0.05,
    cut_off: CutOff = "keep",
    split: Mapping[str, float] | None = None,
) -> ExperimentResults:
    """Compare an experiment's treatments.

    Parameters
    ----------
    listens : DataFrame
        As `analytics.data.listens_frame`, without copies.
    name : str
        The experiment's.
    control : str
        Treatment to compare with.
    alpha : float
        One minus the confidence of each interval.
    cut_off : {"keep", "drop"}
        What becomes of sessions whose end was not seen; see `analytics.sessions.sessions_of`.
    split : mapping of treatment to weight, optional
        As declared; equal by default.

    Raises
    ------
    AnalyticsError
        No listen carries this experiment, nobody had its control, or the split does not fit the treatments.
    """
    assignment = assign(listens, name)
    users = user_metrics(sessions_of(listens, cut_off), assignment)
    return results_of(name, users, assignment.mixed, control, partial(welch, alpha=alpha), split)


def results_of(
    name: str,
    users: pd.DataFrame,
    mixed: int,
    control: str = CONTROL,
    compare: Comparison = welch,
    split: Mapping[str, float] | None = None,
) -> ExperimentResults:
    """Compare an experiment's users; parameters and errors as of `experiment_results` and `effects_of`.

    Parameters
    ----------
    mixed : int
        How many users were left out because they were seen in more than one treatment.
    """
    effects = effects_of(users, control, compare)
    counts = {str(treatment): len(group) for treatment, group in users.groupby("treatment", observed=True)}
    return ExperimentResults(name, control, users, effects, sample_ratio(counts, split), mixed)


def effects_of(users: pd.DataFrame, control: str = CONTROL, compare: Comparison = welch) -> list[Effect]:
    """Compare each treatment's users with the control's, metric by metric, as Botify's notebook does.

    Parameters
    ----------
    users : DataFrame
        One row a user: `treatment` and a column for each metric.
    control : str
    compare : callable
        What a metric's two samples are compared by, and how sure its interval is.

    Raises
    ------
    AnalyticsError
        Nobody had the control, or nobody had anything else.

    Examples
    --------
    >>> users = pd.DataFrame({"treatment": ["C", "C", "T1", "T1"], "time": [1.0, 3.0, 2.0, 4.0]})
    >>> [(effect.metric, effect.effect, effect.significant) for effect in effects_of(users)]
    [('time', 50.0, False)]
    """
    groups = {str(treatment): group for treatment, group in users.groupby("treatment", observed=True)}
    if control not in groups or len(groups) < 2:
        raise AnalyticsError(
            f"control {control!r} and at least one other treatment are needed; users were seen in "
            f"{', '.join(groups) or 'none'}"
        )
    metrics = [column for column in users.columns if column != "treatment"]
    effects = [
        _effect(treatment, metric, Sample.of(groups[control][metric]), Sample.of(group[metric]), compare)
        for treatment, group in groups.items()
        if treatment != control
        for metric in metrics
    ]
    corrected = holm([effect.p_value for effect in effects])
    return [effect._replace(p_holm=float(p)) for effect, p in zip(effects, corrected, strict=True)]


def _effect(treatment: str, metric: str, before: Sample, after: Sample, compare: Comparison) -> Effect:
    difference = compare(before, after)
    effect = difference.in_percent_of(before.mean)
    return Effect(
        treatment=treatment,
        metric=metric,
        control_users=before.n,
        treatment_users=after.n,
        control_mean=before.mean,
        treatment_mean=after.mean,
        effect=effect.estimate,
        lower=effect.lower,
        upper=effect.upper,
        p_value=difference.p_value,
        p_holm=math.nan,  # known once all effects are
        significant=difference.significant,
    )
