"""`botify models list` and `botify experiment list`: who may answer, and whom listeners get."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import closing
from typing import Annotated

import typer
from rich import box
from rich.table import Column, Table

from botify.core.cli import Json, console, print_json, progress, say
from botify.core.errors import BotifyError
from botify.core.kafka.admin import require_kafka
from botify.core.kafka.reader import TopicReader
from botify.core.settings import Settings
from botify.schemas.events import Listen, RampStep
from botify.schemas.registry import codec_of
from botify.schemas.topics import Topics
from botify.schemas.validation import iter_valid
from botify.services.errors import ExperimentError
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


def list_experiments(
    name: Annotated[str | None, typer.Argument(help="An experiment, to show its arms and their listeners.")] = None,
    as_json: Json = False,
) -> None:
    """List the declared experiments in the order in which they are evaluated, or show one."""
    settings = Settings.from_env()
    file, experiments = _declared(settings)
    if name is not None:
        _show(settings, file, experiments, name, as_json=as_json)
        return
    steps = _steps(settings, experiments)
    experiments = experiments if steps is None else experiments.at(steps)
    if as_json:
        print_json(
            {
                "file": file,
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
    for warning in experiments.warnings():
        console.print(f"warning: {warning}", style="yellow", soft_wrap=True)


def _show(settings: Settings, file: str, experiments: Experiments, name: str, *, as_json: bool) -> None:
    """Show the arms of an experiment and the number of listeners in each."""
    found = [experiment for experiment in experiments.experiments if experiment.name == name]
    if not found:
        names = ", ".join(experiment.name for experiment in experiments.experiments) or "none"
        raise ExperimentError(f"{file} does not declare experiment {name!r}; it declares {names}")
    settings = require_kafka(settings)
    with progress("Reading listens"):
        listeners, listens = _samples(settings, name)
        steps = _steps(settings, experiments) or {}
    experiment = found[0].at(steps.get(name))
    if as_json:
        counts = {arm: len(users) for arm, users in listeners.items()}
        print_json({**_about(experiment, steps), "listeners": counts, "listens": listens})
        return
    console.print(_arms(experiment, steps, listeners, listens))
    if name in steps:
        console.print(f"ramp: {steps[name].reason}", soft_wrap=True)
    console.print(f"declared in {file}; botify experiment results {name} compares the treatments", soft_wrap=True)


def _declared(settings: Settings) -> tuple[str, Experiments]:
    return str(settings.experiments or "BOTIFY_EXPERIMENTS (not set)"), load_policy(settings, RECOMMENDERS)


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


def _samples(settings: Settings, name: str) -> tuple[dict[str, set[int]], Counter[str]]:
    """Return the listeners of an experiment's treatments, and numbers of listens recommended under them."""
    listeners, listens, codec = defaultdict[str, set[int]](set), Counter[str](), codec_of(settings)
    with closing(TopicReader(settings, Topics.of(settings).listens.name)) as reader:
        for batch in reader.read_to_end():
            for _, listen in iter_valid(batch, Listen, codec):
                if (treatment := listen.treatments.get(name)) is not None:
                    listeners[treatment].add(listen.user)
                    listens[treatment] += 1
    return listeners, listens


def _arms(experiment: Experiment, steps: Steps, listeners: Mapping[str, set[int]], listens: Mapping[str, int]) -> Table:
    layer, traffic = _slice(experiment, steps)
    about = f"salt {experiment.salt!r}, {len(experiment.buckets)} buckets, layer {layer}, traffic {traffic}"
    figures = [Column(heading, justify="right") for heading in ("share", "listeners", "their share", "listens")]
    title = f"{experiment.name}: {about}"
    table = Table("treatment", "recommender", *figures, title=title, box=box.SIMPLE_HEAD, pad_edge=False)
    total = sum(map(len, listeners.values()))
    declared = {arm.name: (arm.recommender or "-", f"{share:.1%}") for arm, share in experiment.shares().items()}
    # treatments that are no longer declared are shown too: their listens are still on the topic
    for name in dict.fromkeys([*declared, *sorted(listeners)]):
        recommender, share = declared.get(name, ("not declared", "-"))
        count = len(listeners.get(name, ()))
        met = f"{count / total:.1%}" if total else "-"
        table.add_row(name, recommender, share, f"{count:,}", met, f"{listens.get(name, 0):,}")
    return table
