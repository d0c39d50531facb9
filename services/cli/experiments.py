"""`botify models list`, and the declared experiments: who may answer, and whom listeners get."""

from __future__ import annotations

from collections.abc import Mapping

import typer
from rich import box
from rich.table import Column, Table

from botify.core.cli import Json, console, print_json, say
from botify.core.errors import BotifyError
from botify.core.kafka.admin import require_kafka
from botify.core.settings import Settings
from botify.schemas.events import RampStep
from botify.schemas.registry import codec_of
from botify.services.experiments import Experiment, Experiments, load_policy
from botify.services.experiments.live import read_steps
from botify.services.recommender.registry import RECOMMENDERS


def list_recommenders(as_json: Json = False) -> None:
    """List the recommenders: what each answers with, who answers where it cannot, and the models it needs."""
    if as_json:
        about = ("answers", "fallback", "needs")
        print_json({name: {one: getattr(entry, one) for one in about} for name, entry in RECOMMENDERS.items()})
        return
    rows = [("recommender", "answers with", "fallback", "models")]
    rows += [(one.name, one.answers, one.fallback or "-", ", ".join(one.needs) or "-") for one in RECOMMENDERS.values()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:  # in lines, which a table would fold
        say("  ".join(map(str.ljust, row, widths)).rstrip())


def list_experiments(*, as_json: bool) -> None:
    """List the declared experiments in the order in which they are evaluated."""
    settings = Settings.from_env()
    file, experiments = settings.experiments or "BOTIFY_EXPERIMENTS (not set)", load_policy(settings, RECOMMENDERS)
    steps = _steps(settings, experiments)
    experiments = experiments if steps is None else experiments.at(steps)
    if as_json:
        print_json(
            {
                "file": str(file),
                "default": experiments.default,
                "experiments": [_about(experiment, steps) for experiment in experiments.experiments],
                "warnings": list(experiments.warnings()),
            }
        )
        return
    headings = ("experiment", "layer", "traffic", "treatments", "salt")
    table = Table(*(Column(heading, overflow="fold") for heading in headings), box=box.SIMPLE_HEAD, pad_edge=False)
    for experiment in experiments.experiments:
        layer, traffic = _slice(experiment, steps)
        table.add_row(experiment.name, layer, traffic, experiment.arms, experiment.salt)
    console.print(table)
    console.print(
        f"{file}: listeners without a recommender from an experiment get {experiments.default}", soft_wrap=True
    )
    for experiment in experiments.experiments:
        if steps and experiment.name in steps:
            console.print(f"{experiment.name}, ramp: {steps[experiment.name].reason}", soft_wrap=True)
    for warning in experiments.warnings():
        console.print(f"warning: {warning}", style="yellow", soft_wrap=True)


Steps = Mapping[str, RampStep]


def _steps(settings: Settings, experiments: Experiments) -> Steps | None:
    """Return the last step of each ramp that has begun; None if Kafka, which has them, is away."""
    if not any(one.goals and one.goals.ramp for one in experiments.experiments):
        return {}
    try:
        return read_steps(require_kafka(settings), codec_of(settings))
    except BotifyError as error:
        typer.secho(f"how far ramps are is not known: {error}", err=True, fg=typer.colors.YELLOW)
        return None


def _about(experiment: Experiment, steps: Steps | None) -> dict[str, object]:
    is_ramped = experiment.goals is not None and bool(experiment.goals.ramp)
    step = None if steps is None else steps.get(experiment.name)
    return {
        "experiment": experiment.name,
        "salt": experiment.salt,
        "layer": None if experiment.slice is None else experiment.slice.layer,
        "traffic": None if is_ramped and steps is None else experiment.traffic,
        "ramp": None if step is None else step._asdict(),
        "arms": [
            {"treatment": arm.name, "share": share, "recommender": arm.recommender}
            for arm, share in experiment.shares().items()
        ],
    }


def _slice(experiment: Experiment, steps: Steps | None) -> tuple[str, str]:
    layer = "-" if experiment.slice is None else experiment.slice.layer
    if experiment.goals is None or not experiment.goals.ramp:
        return layer, "all" if experiment.slice is None else f"{experiment.traffic:.1%}"
    layer = "-" if layer == f"experiment:{experiment.name}" else layer  # of its own
    if steps is None:
        return layer, "ramp: unknown"
    if experiment.decided is not None:
        return layer, f"all get {experiment.decided.name}"
    return layer, f"ramp: {experiment.traffic:.1%}" if experiment.name in steps else "ramp: not begun"
