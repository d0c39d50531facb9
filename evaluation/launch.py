"""`botify experiment results`, and whether a launch ships: sessions become the users of `botify.analytics.decision`.

Settled listeners are decided by the rule, first sessions show early losses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from rich.table import Table

from botify.analytics import AnalyticsError
from botify.analytics.arms import signed
from botify.analytics.assignment import Assignment, metrics_before, novelty, per_user
from botify.analytics.cli import Source, metrics_table, print_effects, print_interaction, weights_of, with_metrics
from botify.analytics.decision import ROLL_BACK, Decision, Rule, decide
from botify.analytics.experiment import CONTROL, HOUR_MS, adjust, settled_users
from botify.analytics.planning import decision_users
from botify.core.cli import Alpha, Data, Json, Run, console, print_json, read_settings, say
from botify.core.goals import Goals
from botify.core.settings import Settings
from botify.core.sql import EngineName, EngineOption
from botify.core.welch import Sample
from botify.services.cli.experiments import list_experiments
from botify.services.experiments import Experiment, load_policy
from botify.streams.folds.sessions import GAP_MS

OF_FIRST_SESSION = ("mean_time_per_session", "mean_tracks_per_session", "mean_request_latency")
"""Metrics that a single session has."""
FEWEST = 100  # settled listeners from which the horizon can be planned
UNPLANNED = 1_000_000


@dataclass(frozen=True, slots=True)
class Judge:
    """How a launch is judged: the users are built here, `botify.analytics.decision` decides.

    The first treatment of the experiment, or the one named `C`, is the control. `effect` is the smallest relevant
    improvement, as a share of the control's mean; `window_h` are the hours of each listener that are compared, in event
    time. The horizon is `listeners`, or planned from the spread of the settled listeners, pooled within the arms: it
    does not depend on the effect, so it may be planned again at each look (Friede and Kieser, Statistics in Medicine
    25, 2006).
    """

    experiment: Experiment
    effect: float = 0.02
    window_h: float = 24.0
    alpha: float = 0.05
    listeners: int | None = None

    @property
    def control(self) -> str:
        names = list(self.shares)
        return "C" if "C" in names else names[0]

    @property
    def treatments(self) -> list[str]:
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
        """Decide about each treatment from the listeners whose window is over; `sessions` include those before it."""
        users = settled_users(sessions, assignment, round(self.window_h * HOUR_MS))
        users = users.assign(treatment=users["treatment"].astype(str))
        if len(users):
            users = adjust(users, metrics_before(sessions, assignment)).users
        recommenders = {arm.name: arm.recommender for arm in self.experiment.shares() if arm.recommender}
        rule = Rule(self.goals, self._horizon(users), self.alpha, treatments=len(self.treatments))
        return [decide(users, name, rule, self.control, self.shares, recommenders) for name in self.treatments]

    def early(self, sessions: pd.DataFrame, assignment: Assignment) -> list[Decision]:
        """Return decisions against treatments that first sessions already show to be worse, before windows are over."""
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
    """Return each metric's standard deviation within the arms over its mean."""
    found = {}
    for metric in metrics:
        samples = [Sample.of(group) for _, group in users.groupby("treatment", observed=True)[metric]]
        n = sum(sample.n for sample in samples)
        mean = sum(sample.n * sample.mean for sample in samples if sample.n) / n if n else np.nan
        variance = sum(sample.n * sample.variance for sample in samples if sample.n) / n if n else np.nan
        found[metric] = float(np.sqrt(variance) / abs(mean)) if mean else np.nan
    return found


def first_sessions(sessions: pd.DataFrame, assignment: Assignment) -> pd.DataFrame:
    """Return `treatment` and `OF_FIRST_SESSION` of each listener's first session that is over, by time of entry."""
    taking_part = sessions.join(assignment.users["since_ms"], on="user", how="inner")
    within = taking_part[taking_part["ended_ms"] >= taking_part["since_ms"]].sort_values("started_ms", kind="stable")
    first = within.drop_duplicates("user")
    over = first[first["ended"] | (first["ended_ms"] + GAP_MS <= assignment.until_ms)]
    metrics = per_user(over)[list(OF_FIRST_SESSION)]
    users = assignment.users.join(metrics, how="inner").sort_values("since_ms", kind="stable")
    return users.assign(treatment=users["treatment"].astype(str)).drop(columns="since_ms")


EFFECT, LEAST_EFFECT = 2.0, 0.01
"""Smallest relevant improvement, in % of the control's mean."""
WINDOW_H = 24.0  # hours of each listener to compare, in event time
LEAST_LISTENERS = 100  # of both arms, to plan for


def _at_least(least: float, name: str, kind: Callable[[str], float] = float) -> Callable[[str], float]:
    def read(text: str) -> float:
        if not (value := kind(text)) >= least:
            raise AnalyticsError(f"--set {name}={text} must be at least {least:g}")
        return value

    return read


OF_RULE: Mapping[str, Callable[[str], Any]] = {
    "effect": _at_least(LEAST_EFFECT, "effect"),
    "window_h": _at_least(0, "window_h"),
    "listeners": _at_least(LEAST_LISTENERS, "listeners", int),
}
OF_RESULTS: Mapping[str, Callable[[str], Any]] = {"control": str, "split": weights_of}
"""Settings of `--set`, with and without `--decide`, and what reads their values."""


def results(
    name: Annotated[str | None, typer.Argument(help="An experiment; without it, those that are declared.")] = None,
    other: Annotated[
        str | None, typer.Argument(help="Instead of effects: whether it interacts with this experiment.")
    ] = None,
    decide: Annotated[
        bool,
        typer.Option(
            "--decide",
            help="Decide whether treatments ship, by success metrics and guardrails.",
        ),
    ] = False,
    run: Run = None,
    data: Data = None,
    engine: EngineOption = EngineName.DUCKDB,
    alpha: Alpha = 0.05,
    cuped: Annotated[
        bool, typer.Option("--cuped", help="Reduce variance with data from before the experiment (CUPED).")
    ] = False,
    holm: Annotated[bool, typer.Option("--holm", help="Correct p-values for multiple comparisons (Holm).")] = False,
    always_valid: Annotated[
        float | None,
        typer.Option(
            min=0, help="Confidence sequences, valid under repeated looks, over these first hours of each listener."
        ),
    ] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            help="Add retention:DAYS, quantile:0.9 (over listeners) or ratio (time per session, each session alike); "
            "repeat for several.",
        ),
    ] = None,
    segment: Annotated[
        str | None,
        typer.Option(help="Compare within segments: `returning`, favourite `genre`, or `attribute:NAME` of listeners."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="control=NAME; split=C=3,T1=1 for unequal shares; with --decide: effect (least relevant, in %: 2), "
            "window_h (hours of each listener, 24), listeners (of both arms, to plan for); repeat for several.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Print an experiment's effects, or decide whether its treatment ships; without a name list the experiments."""
    if name is None:
        if any((decide, settings, run, data, cuped, holm, always_valid is not None, metrics, segment)):
            raise AnalyticsError("name an experiment; without a name they are listed, and only --json has a meaning")
        list_experiments(as_json=as_json)
        return
    source = Source(data, run, engine)
    chosen = read_settings(settings or (), OF_RULE if decide else OF_RESULTS, AnalyticsError)
    if decide:
        others = {
            "OTHER": other, "--cuped": cuped, "--holm": holm, "--always-valid": always_valid, "--metric": metrics,
            "--segment": segment,
        }  # fmt: skip
        if given := ", ".join(option for option, is_given in others.items() if is_given):
            raise AnalyticsError(f"--decide applies the declared rule; leave out {given}")
        effect, window_h = chosen.get("effect", EFFECT), chosen.get("window_h", WINDOW_H)
        experiment = declared_experiment(Settings.from_env(), name)
        judge = Judge(experiment, effect / 100, window_h, alpha, chosen.get("listeners"))
        _print_decisions(judge, source, as_json=as_json)
    elif other is not None:
        print_interaction(name, other, source, alpha, as_json=as_json)
    else:
        analysis = replace(
            with_metrics(metrics or ()),
            control=chosen.get("control", CONTROL),
            alpha=alpha,
            cuped=cuped,
            holm=holm,
            window_ms=None if always_valid is None else round(always_valid * HOUR_MS),
            split=chosen.get("split"),
        )
        print_effects(name, source, analysis, segment, as_json=as_json)


def _print_decisions(judge: Judge, source: Source, *, as_json: bool) -> None:
    judge.goals  # noqa: B018 - raises before the listens are read
    name = judge.experiment.name
    sessions, (assignment,) = source.read(name)
    decisions = judge.decisions(sessions, assignment)
    changes = {one.treatment: novelty(sessions, assignment, judge.control, one.treatment) for one in decisions}
    if as_json:
        shown = []
        for one in decisions:
            metrics, change = [row._asdict() for row in one.metrics], changes[one.treatment]._asdict()
            shown.append({**one._asdict(), "metrics": metrics, "novelty": change})
        print_json(shown)
        return
    for one in decisions:
        console.print(render_decision(name, one))
        say(one.sentence)
        if (later := changes[one.treatment]).significant:
            trend = f"{abs(later.estimate):.2f} {'larger' if later.estimate > 0 else 'smaller'}"
            say(f"the effect on the time per session is {trend} in the later half of a listener's sessions: novelty")


def declared_experiment(settings: Settings, name: str) -> Experiment:
    """Return an experiment of the experiments file; raises `AnalyticsError` if it is not declared."""
    declared = {one.name: one for one in load_policy(settings).experiments}
    if name not in declared:
        raise AnalyticsError(
            f"{settings.experiments or 'BOTIFY_EXPERIMENTS (not set)'} does not declare experiment {name!r}; "
            f"it declares {', '.join(declared) or 'none'}"
        )
    return declared[name]


def render_decision(name: str, decision: Decision) -> Table:
    """Draw the metrics of a decision."""
    title = f"{name}, {decision.treatment}: {decision.users:,} of {decision.horizon:,} planned listeners"
    table = metrics_table(title, ("metric", "goal"), ("control", "treated", "effect %"))
    table.add_column("sig.", overflow="fold")
    for row in decision.metrics:
        means = f"{row.control:,.3f}", f"{row.treated:,.3f}"
        table.add_row(row.metric, row.goal or "–", *means, signed(row.effect), row.says or "–")
    return table
