"""From listens to Botify's table: which treatment kept listeners longer, and how certain that is.

Also of a running experiment: CUPED, interactions with another experiment, and intervals under repeated looks.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd

from botify.analytics import AnalyticsError
from botify.analytics.assignment import METRICS, Assignment, assign, metrics_before, sessions_in, user_metrics
from botify.analytics.sessions import retention, sessions_of
from botify.analytics.statistics import (
    ConfidenceSequence,
    SampleRatio,
    add_linearised,
    cuped,
    holm,
    interaction,
    running_sample,
    sample_ratio,
)
from botify.core.goals import BETTER
from botify.core.welch import Difference, Sample, welch

CONTROL = "C"  # Botify's name of the control

Comparison = Callable[[Sample, Sample], Difference]
"""Compares control and treatment: `welch`, or the `difference` of a `ConfidenceSequence`."""


class Effect(NamedTuple):
    """The effect of a treatment on a metric."""

    treatment: str
    metric: str
    control_users: int  # number of users that have the metric
    treatment_users: int
    control_mean: float
    treatment_mean: float
    # difference of the means and its interval in % of the control's mean, which is taken as known; NaN if that mean is
    # zero
    effect: float
    lower: float
    upper: float
    p_value: float  # under the hypothesis of no difference
    p_holm: float  # corrected for the number of metrics and treatments that the experiment compares
    significant: bool  # whether the interval excludes zero

    @property
    def better(self) -> int:
        """1 if the treatment is significantly better than the control, -1 if it is worse, 0 if neither is certain."""
        return BETTER.get(self.metric, 1) * (1 if self.effect > 0 else -1) if self.significant else 0


class ExperimentResults(NamedTuple):
    """The results of an experiment."""

    name: str
    control: str  # treatment that the others are compared with
    users: pd.DataFrame
    effects: list[Effect]  # one for each treatment and metric
    ratio: SampleRatio  # whether the users split as declared; if not, the results are not valid
    mixed: int  # users left out because they were seen in more than one treatment

    @property
    def table(self) -> pd.DataFrame:
        """Botify's table: a row for each effect."""
        return pd.DataFrame(self.effects, columns=Effect._fields)


def experiment_results(
    listens: pd.DataFrame, name: str, control: str = CONTROL, split: Mapping[str, float] | None = None
) -> ExperimentResults:
    """Compare an experiment's treatments in listens without copies; the split is equal by default.

    Raises `AnalyticsError` if no listen carries this experiment, no user had its control, or the split does not fit the
    treatments.
    """
    assignment = assign(listens, name)
    return results_of(name, user_metrics(sessions_of(listens), assignment), assignment.mixed, control, split=split)


def results_of(
    name: str,
    users: pd.DataFrame,
    mixed: int,
    control: str = CONTROL,
    compare: Comparison = welch,
    split: Mapping[str, float] | None = None,
) -> ExperimentResults:
    """Compare an experiment's users; parameters and errors as of `experiment_results` and `effects_of`."""
    effects = effects_of(users, control, compare)
    counts = {str(treatment): len(group) for treatment, group in users.groupby("treatment", observed=True)}
    return ExperimentResults(name, control, users, effects, sample_ratio(counts, split), mixed)


def effects_of(users: pd.DataFrame, control: str = CONTROL, compare: Comparison = welch) -> list[Effect]:
    """Compare each treatment's users with the control's, metric by metric, as Botify's notebook does.

    Raises `AnalyticsError` if no user had the control, or all users had it.
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


class AdjustedUsers(NamedTuple):
    """Users with adjusted metrics."""

    users: pd.DataFrame  # for `effects_of`
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


HOUR_MS = 60 * 60 * 1000
QUANTILES_OF = ("mean_time_per_session", "mean_request_latency")


@dataclass(frozen=True, slots=True)
class Analysis:
    """Options of an analysis."""

    control: str = CONTROL  # treatment to compare with
    alpha: float = 0.05  # one minus the confidence of each interval
    cuped: bool = False  # whether to reduce the variance with data from before the experiment
    holm: bool = False  # whether to correct significance for the number of metrics and treatments
    # compares this first period of each user in the experiment by a confidence sequence, which is valid under repeated
    # looks; by default, all data is compared by Welch's interval, which is valid at one look
    window_ms: int | None = None
    tuned_for: int = 10_000  # users at which the confidence sequence is narrowest; choose it before the first look
    split: Mapping[str, float] | None = None  # as declared; equal by default
    # adds retention on these days after each user's first session in the experiment (`botify.analytics.sessions`)
    retention_days: Sequence[int] = ()
    quantiles: Sequence[float] = ()  # adds these quantiles over users of `QUANTILES_OF` (`botify.analytics.statistics`)
    ratio: bool = False  # adds the time of all sessions over their number, in which each session weighs alike


class Analysed(NamedTuple):
    """Results, and notes on how to read them."""

    results: ExperimentResults
    notes: list[str]


def analyse(name: str, sessions: pd.DataFrame, assignment: Assignment, analysis: Analysis) -> Analysed:
    """Analyse an experiment; CUPED needs the sessions from before it too.

    Raises `AnalyticsError` if no user had the control, or all users had it, or the split does not fit the treatments.
    """
    notes = []
    users = user_metrics(sessions, assignment)
    compare: Comparison = partial(welch, alpha=analysis.alpha)
    if analysis.window_ms is not None:
        users = settled_users(sessions, assignment, analysis.window_ms)
        compare = ConfidenceSequence(analysis.alpha, analysis.tuned_for).difference
        hours = analysis.window_ms / HOUR_MS
        notes.append(f"valid at every look: the first {hours:g} h of each of {len(users):,} listeners")
    if analysis.cuped:
        users, reduction = adjust(users, metrics_before(sessions, assignment))
        notes.append("CUPED reduces the variance by " + ", ".join(f"{r:.0%} ({m})" for m, r in reduction.items()))
    if analysis.retention_days:
        users = users.join(retention(sessions_in(sessions, assignment), analysis.retention_days))
    if analysis.quantiles or analysis.ratio:
        users = add_linearised(users, analysis.quantiles, QUANTILES_OF, ratio=analysis.ratio)
    results = results_of(name, users, assignment.mixed, analysis.control, compare, analysis.split)
    if analysis.holm:
        corrected = [e._replace(significant=e.p_holm < analysis.alpha) for e in results.effects]
        results = results._replace(effects=corrected)
        notes.append(f"significance is corrected for {len(corrected)} comparisons (Holm)")
    return Analysed(results, notes)
