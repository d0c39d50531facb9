"""`botify experiment decide` and `ramp`: whether a treatment ships, and traffic that follows from it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from rich import box
from rich.table import Table

from botify.analytics import AnalyticsError
from botify.analytics.assignment import Assignment, assign
from botify.analytics.data import read_listens
from botify.analytics.decision import Decision, rows_of
from botify.analytics.exported import open_listens
from botify.analytics.sessions import sessions_of
from botify.analytics.slices import novelty
from botify.core.cli import Alpha, Data, Json, Run, console, print_json, progress, say
from botify.core.kafka.admin import require_kafka
from botify.core.settings import Settings
from botify.core.welch import Difference
from botify.evaluation.launch.judge import Judge
from botify.evaluation.launch.ramp import LISTENERS_A_STEP, Ramp
from botify.schemas.events import RampStep
from botify.schemas.registry import codec_of
from botify.services.experiments import Experiment, load_policy
from botify.streams.store.connect import require_redis

Effect = Annotated[float, typer.Option(min=0.01, help="Smallest relevant improvement, in % of the control's mean.")]
Window = Annotated[float, typer.Option(min=0, help="Hours of each listener to compare, in event time.")]
Listeners = Annotated[
    int | None, typer.Option(min=100, help="Listeners of both arms to plan for; default: from the spread of the data.")
]
Name = Annotated[str, typer.Argument(help="Name of an experiment that declares success metrics and guardrails.")]


def decide(
    name: Name,
    effect: Effect = 2.0,
    window_h: Window = 24.0,
    listeners: Listeners = None,
    run: Run = None,
    data: Data = None,
    alpha: Alpha = 0.05,
    as_json: Json = False,
) -> None:
    """Decide whether an experiment's treatment ships, by its success metrics and guardrails."""
    settings = Settings.from_env()
    judge = Judge(_declared(settings, name), effect / 100, window_h, alpha, listeners)
    judge.goals  # noqa: B018 - raises before the listens are read
    sessions, assignment = _read(settings, name, data, run)
    decisions = judge.decisions(sessions, assignment)
    changes = {one.treatment: novelty(sessions, assignment, judge.control, one.treatment) for one in decisions}
    if as_json:
        print_json(
            [
                {
                    **one._asdict(),
                    "metrics": [row._asdict() for row in one.metrics],
                    "novelty": {**changes[one.treatment]._asdict()},
                }
                for one in decisions
            ]
        )
        return
    for one in decisions:
        console.print(render_decision(name, one))
        say(one.sentence)
        if changes[one.treatment].significant:
            say(f"the effect on the time per session {_trend(changes[one.treatment])} over each listener's sessions")


def ramp(
    name: Name,
    effect: Effect = 2.0,
    window_h: Window = 24.0,
    listeners: Listeners = None,
    step_listeners: Annotated[
        int, typer.Option(min=50, help="New listeners in each arm before the next step.")
    ] = LISTENERS_A_STEP,
    alpha: Alpha = 0.05,
) -> None:
    """Raise an experiment's traffic step by step; ship or roll back by its goals. Run it again to continue."""
    settings = require_kafka(require_redis(Settings.from_env()))
    judge = Judge(_declared(settings, name), effect / 100, window_h, alpha, listeners)
    follower = Ramp(settings, codec_of(settings), judge, step_listeners)
    if follower.last is not None:
        say(_told(follower.last))
    try:
        last = follower.run(lambda step: say(_told(step)))
    except KeyboardInterrupt:
        say(f"the traffic stays as it is; run `botify experiment ramp {name}` again to continue")
        raise typer.Exit(130) from None
    finally:
        follower.close()
    raise typer.Exit(1 if last.arm == judge.control else 0)


def _told(step: RampStep) -> str:
    traffic = f"{step.share:.0%} of the listeners" if step.arm is None else f"all listeners get {step.arm}"
    return f"{traffic}: {step.reason}"


def _trend(change: Difference) -> str:
    return f"{'grows' if change.estimate > 0 else 'falls'} by {abs(change.estimate):.2f} (later less earlier half)"


def _declared(settings: Settings, name: str) -> Experiment:
    declared = {one.name: one for one in load_policy(settings).experiments}
    if name not in declared:
        raise AnalyticsError(
            f"{settings.experiments or 'BOTIFY_EXPERIMENTS (not set)'} does not declare experiment {name!r}; "
            f"it declares {', '.join(declared) or 'none'}"
        )
    return declared[name]


def _read(settings: Settings, name: str, data: Path | None, run: str | None) -> tuple[pd.DataFrame, Assignment]:
    if data is not None:
        with open_listens(data, run) as exported:
            return exported.sessions(), exported.assignment(name)
    with progress("Reading listens") as bar:
        listens = read_listens(require_kafka(settings), run_id=run, tell=bar.advance)
    return sessions_of(listens), assign(listens, name)


def render_decision(name: str, decision: Decision) -> Table:
    """Draw the metrics of a decision."""
    table = Table(
        title=f"{name}, {decision.treatment}: {decision.users:,} of {decision.horizon:,} planned listeners",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,  # 80 columns hold it
    )
    for heading in ("metric", "goal"):
        table.add_column(heading, no_wrap=True)
    for heading in ("control", "treated", "effect %"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("sig.", overflow="fold")
    for row in rows_of(decision):
        table.add_row(*row)
    return table
