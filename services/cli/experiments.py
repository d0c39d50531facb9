"""`botify experiment list` and `show`: the declared experiments, and the listeners of each treatment."""

from __future__ import annotations

from typing import Annotated

import typer
from rich import box
from rich.table import Column, Table

from core.cli import Json, console, print_json
from core.kafka.admin import require_kafka
from core.kafka.reader import TopicReader
from core.settings import Settings
from schemas.events import Listen
from schemas.registry import codec_of
from schemas.topics import Topics
from schemas.validation import iter_valid
from services.errors import ExperimentError
from services.experiments import DEFAULT_FILE, Experiment, Experiments, load_experiments
from services.experiments.assignment import Samples
from services.recommender.registry import RECOMMENDERS


def list_experiments(as_json: Json = False) -> None:
    """List the declared experiments in the order in which they are evaluated."""
    file, experiments = _declared(Settings.from_env())
    if as_json:
        print_json(
            {
                "file": file,
                "default": experiments.default,
                "experiments": [_about(experiment) for experiment in experiments.experiments],
                "warnings": list(experiments.warnings()),
            }
        )
        return
    headings = ("experiment", "layer", "traffic", "treatments", "salt")
    table = Table(*(Column(heading, overflow="fold") for heading in headings), box=box.SIMPLE_HEAD, pad_edge=False)
    for experiment in experiments.experiments:
        arms = ", ".join(
            f"{arm.name} {share:.0%} {arm.recommender or '-'}" for arm, share in experiment.shares().items()
        )
        layer, traffic = _slice(experiment)
        table.add_row(experiment.name, layer, traffic, arms, experiment.salt)
    console.print(table)
    console.print(
        f"{file}: listeners without a recommender from an experiment get {experiments.default}", soft_wrap=True
    )
    for warning in experiments.warnings():
        console.print(f"warning: {warning}", style="yellow", soft_wrap=True)


def show(name: Annotated[str, typer.Argument(help="Name of the experiment.")], as_json: Json = False) -> None:
    """Show the arms of an experiment and the number of listeners in each."""
    settings = Settings.from_env()
    file, experiments = _declared(settings)
    found = [experiment for experiment in experiments.experiments if experiment.name == name]
    if not found:
        names = ", ".join(experiment.name for experiment in experiments.experiments) or "none"
        raise ExperimentError(f"{file} does not declare experiment {name!r}; it declares {names}")
    require_kafka(settings)
    with console.status("Reading listens"):
        samples = _samples(settings, name)
    if as_json:
        listeners = {arm: len(users) for arm, users in samples.listeners.items()}
        print_json({**_about(found[0]), "listeners": listeners, "listens": samples.listens})
        return
    console.print(_arms(found[0], samples))
    console.print(f"declared in {file}; botify experiment results {name} compares the treatments", soft_wrap=True)


def _declared(settings: Settings) -> tuple[str, Experiments]:
    file = settings.experiments or DEFAULT_FILE
    return str(file), load_experiments(file, RECOMMENDERS)


def _about(experiment: Experiment) -> dict[str, object]:
    layer, traffic = (None, 1.0) if experiment.slice is None else (experiment.slice.layer, experiment.slice.traffic)
    arms = [
        {"treatment": arm.name, "share": share, "recommender": arm.recommender}
        for arm, share in experiment.shares().items()
    ]
    return {"experiment": experiment.name, "salt": experiment.salt, "layer": layer, "traffic": traffic, "arms": arms}


def _slice(experiment: Experiment) -> tuple[str, str]:
    if experiment.slice is None:
        return "-", "all"
    return experiment.slice.layer, f"{experiment.slice.traffic:.1%}"


def _samples(settings: Settings, name: str) -> Samples:
    samples = Samples(name)
    reader = TopicReader(settings, Topics.of(settings).listens.name)
    try:
        codec = codec_of(settings)
        for batch in reader.read_to_end():
            samples.update(listen for _, listen in iter_valid(batch, Listen, codec))
    finally:
        reader.close()
    return samples


def _arms(experiment: Experiment, samples: Samples) -> Table:
    layer, traffic = _slice(experiment)
    about = f"salt {experiment.salt!r}, {len(experiment.buckets)} buckets, layer {layer}, traffic {traffic}"
    figures = [Column(heading, justify="right") for heading in ("share", "listeners", "their share", "listens")]
    title = f"{experiment.name}: {about}"
    table = Table("treatment", "recommender", *figures, title=title, box=box.SIMPLE_HEAD, pad_edge=False)
    total = sum(len(listeners) for listeners in samples.listeners.values())
    declared = {arm.name: (arm.recommender or "-", f"{share:.1%}") for arm, share in experiment.shares().items()}
    # treatments that are no longer declared are shown too: their listens are still on the topic
    for name in dict.fromkeys([*declared, *sorted(samples.listeners)]):
        recommender, share = declared.get(name, ("not declared", "-"))
        listeners = len(samples.listeners.get(name, ()))
        met = f"{listeners / total:.1%}" if total else "-"
        table.add_row(name, recommender, share, f"{listeners:,}", met, f"{samples.listens.get(name, 0):,}")
    return table
