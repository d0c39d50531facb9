"""`botify experiment`: what came out, and how long it takes until something can."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from rich.console import Console

from analytics.analysis import HOUR_MS, Analysis, analyse
from analytics.assignment import Assignment, assign
from analytics.data import read_listens
from analytics.errors import AnalyticsError
from analytics.experiment import CONTROL
from analytics.exported import open_listens
from analytics.monitoring import interactions_of
from analytics.planning import Wanted, plan_experiment
from analytics.render import render_interactions, render_plan, render_table
from analytics.sessions import sessions_of
from core.kafka.admin import require_kafka
from core.settings import Settings

GROUP = "botify.experiment"
"""Entry points by which other packages bring commands of this group."""

experiment = typer.Typer(help="Plan A/B experiments and analyse their results.", no_args_is_help=True)
for _entry in entry_points(group=GROUP):
    experiment.command(_entry.name)(_entry.load())

Data = Annotated[Path | None, typer.Option(help="Folder that `botify export` wrote; default: read the topic.")]
Run = Annotated[str | None, typer.Option(help="Only listens of this simulator run.")]
Alpha = Annotated[float, typer.Option(min=1e-6, max=0.5, help="Significance level: one minus the confidence level.")]


@experiment.command()
def results(
    name: Annotated[str, typer.Argument(help="Name of the experiment.")],
    control: Annotated[str, typer.Option(help="Treatment that the others are compared with.")] = CONTROL,
    run: Run = None,
    data: Data = None,
    alpha: Alpha = 0.05,
    cuped: Annotated[
        bool, typer.Option("--cuped", help="Reduce variance with data from before the experiment (CUPED).")
    ] = False,
    holm: Annotated[bool, typer.Option("--holm", help="Correct p-values for multiple comparisons (Holm).")] = False,
    always_valid: Annotated[
        bool, typer.Option("--always-valid", help="Use confidence sequences, which stay valid under repeated looks.")
    ] = False,
    window_h: Annotated[
        float, typer.Option(min=0, help="With --always-valid: hours of each listener to compare.")
    ] = 24.0,
    tuned_for: Annotated[
        int, typer.Option(min=1, help="With --always-valid: number of listeners at which the interval is narrowest.")
    ] = 10_000,
    split: Annotated[str | None, typer.Option(help="Declared traffic split, such as C=3,T1=1; default: equal.")] = None,
    retention: Annotated[
        list[int] | None, typer.Option(min=1, help="Add retention after this number of days; repeat for several.")
    ] = None,
) -> None:
    """Print the effects of an experiment as a table."""
    window_ms = round(window_h * HOUR_MS) if always_valid else None
    analysis = Analysis(control, alpha, cuped, holm, window_ms, tuned_for, _weights(split), retention or ())
    console = Console()
    with console.status("Reading listens"):
        sessions, (assignment,) = _sessions_and_assignments([name], data, run)
    found, notes = analyse(name, sessions, assignment, analysis)
    console.print(render_table(found, notes, alpha))


@experiment.command()
def interaction(
    first: Annotated[str, typer.Argument(help="Name of an experiment.")],
    second: Annotated[str, typer.Argument(help="Name of another experiment on the same listeners.")],
    run: Run = None,
    data: Data = None,
    alpha: Alpha = 0.05,
) -> None:
    """Test whether two experiments interact; without an interaction, each can be analysed alone."""
    console = Console()
    with console.status("Reading listens"):
        sessions, (one, other) = _sessions_and_assignments([first, second], data, run)
    console.print(render_interactions(first, second, interactions_of(sessions, one, other), alpha))


@experiment.command()
def power(
    effect: Annotated[float, typer.Option(help="Smallest relevant effect, in % of the control's mean.")],
    metric: Annotated[str, typer.Option(help="Primary metric.")] = "time",
    wanted_power: Annotated[float, typer.Option("--power", help="Probability of detecting the effect.")] = 0.8,
    alpha: Alpha = 0.05,
    treatments: Annotated[int, typer.Option(min=1, help="Number of treatments besides the control.")] = 1,
    variance_reduction: Annotated[
        float, typer.Option(min=0, max=1, help="Fraction of the variance that CUPED removes, 0 to 1.")
    ] = 0.0,
    run: Run = None,
    data: Data = None,
) -> None:
    """Estimate the listeners and days that an experiment needs, from existing listens."""
    wanted = Wanted(metric, effect, wanted_power, alpha, treatments, variance_reduction)
    console = Console()
    with console.status("Reading listens"):
        sessions = _sessions(data, run)
    console.print(render_plan(wanted, plan_experiment(sessions, wanted)))


def _sessions_and_assignments(
    names: Sequence[str], data: Path | None, run: str | None
) -> tuple[pd.DataFrame, list[Assignment]]:
    if data is not None:
        with open_listens(data, run) as exported:
            return exported.sessions(), [exported.assignment(name) for name in names]
    listens = read_listens(require_kafka(Settings.from_env()), run_id=run)
    return sessions_of(listens), [assign(listens, name) for name in names]


def _sessions(data: Path | None, run: str | None) -> pd.DataFrame:
    if data is not None:
        with open_listens(data, run) as exported:
            return exported.sessions()
    return sessions_of(read_listens(require_kafka(Settings.from_env()), run_id=run))


def _weights(text: str | None) -> dict[str, float] | None:
    if text is None:
        return None
    try:
        return {treatment: float(weight) for treatment, weight in (part.split("=") for part in text.split(","))}
    except ValueError as error:
        raise AnalyticsError(f"split {text!r} is not treatments with weights, such as C=3,T1=1") from error
