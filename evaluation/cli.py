"""`botify evaluate`: recommenders on a real log, event by event, next to their peers."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from botify.core.cli import Json, print_json, progress, say
from botify.core.kafka.admin import require_kafka
from botify.core.settings import Settings
from botify.evaluation import EvaluationError, MissingPeerError
from botify.evaluation.evaluate import REFRESH, Job, evaluate_all
from botify.evaluation.figures import new_rows, questions_of, rows_of
from botify.evaluation.log import log_of_dataset, positive_of
from botify.evaluation.protocols import MICRO_BATCH, Terms
from botify.evaluation.rankers.registry import PEERS, check_name, check_served, check_setting, require_peer, trials_of
from botify.evaluation.run import Outcome
from botify.evaluation.table import LEAST_QUESTIONS, line_of, notes_of, render, save_plots
from botify.evaluation.table import as_json as figures_of
from botify.streams.store.connect import require_redis

DEFAULT = "toppop, random, rerank, botify"  # with spaces, where help may break the line
WIDE = 120


class ProtocolName(StrEnum):
    """Protocols of `botify.evaluation.protocols`."""

    PREQUENTIAL = "prequential"
    LEAVE_LAST_OUT = "leave-last-out"
    TEMPORAL_SPLIT = "temporal-split"


class Through(StrEnum):
    """What serves the answers that are judged."""

    SNAPSHOTS = "snapshots"
    KAFKA = "kafka"


RUN: Mapping[str, float | None] = {
    "positive": None,
    "micro_batch": MICRO_BATCH,
    "block": None,
    "refresh": REFRESH,
    "trainings": 10,
    "peer_minutes": 10,
    "processes": 1,
    "shuffle_sittings": None,
    "tune": None,
    "new_plays": None,
    "validation": None,
}
"""Settings of a run and their defaults."""
SEEDS, K = 5, 10


def evaluate(
    name: Annotated[
        str, typer.Argument(help="Name of a dataset, see `botify data list`; with --card several, separated by commas.")
    ],
    json_file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="With --json: write it to this file, and print the tables.")
    ] = None,
    recommenders: Annotated[str, typer.Option(help="Names of recommenders and peers, separated by commas.")] = DEFAULT,
    protocol: Annotated[ProtocolName, typer.Option(help="How events are predicted and learned.")] = (
        ProtocolName.PREQUENTIAL
    ),
    baseline: Annotated[str | None, typer.Option(help="Recommender to compare with; default: the first.")] = None,
    peers: Annotated[bool, typer.Option("--peers", help="Add all peers that are installed.")] = False,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Number of replays.")] = SEEDS,
    k: Annotated[int, typer.Option(min=1, max=1000, help="Length of the lists.")] = K,
    repeats: Annotated[bool, typer.Option("--repeats", help="Also recommend tracks that the user has heard.")] = False,
    through: Annotated[
        Through | None,
        typer.Option(
            help="What serves answers: snapshots and last listens as recommenders read them, or kafka: topics, worker, "
            "learner, Redis and recommender. Default: the models themselves."
        ),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=NUMBER",
            help=f"Of a peer, such as ease.l2=300, or of the run: {', '.join(RUN)}; repeat for several.",
        ),
    ] = None,
    as_json: Json = False,
    plots: Annotated[Path | None, typer.Option(help="Write pictures of the curves to this directory.")] = None,
    card: Annotated[
        bool, typer.Option("--card", help="Compare the log's ranking with those of simulated listeners; takes an hour.")
    ] = False,
) -> None:
    """Evaluate recommenders on an imported dataset: each event is predicted, then learned.

    Settings of a run: the smallest fraction heard or rating that counts as liked (positive); events that are predicted
    before they are learned (micro_batch) and events of a block (block) in the prequential protocol; listens between two
    refreshes of served models (refresh); equal parts of the log, after each of which batch peers are trained if more is
    asked (trainings), and for how many minutes at most (peer_minutes); recommenders to run at a time (processes);
    minutes between two events of a user that make a sitting, whose items are shuffled (shuffle_sittings); settings of
    each peer to choose among on the validation part (tune); the number of earlier plays from which an item is new no
    more, for a table of new items (new_plays); 1 to evaluate on what the test does not use, to choose settings
    (validation).
    """
    console, warnings = Console(), Console(stderr=True)
    if json_file is not None and not as_json:
        raise EvaluationError(f"{json_file} is not the name of one dataset more; write --json {json_file} for a file")
    if card:
        others = {
            "--protocol": protocol is not ProtocolName.PREQUENTIAL, "--baseline": baseline, "--peers": peers,
            "--seeds": seeds != SEEDS, "--k": k != K, "--repeats": repeats, "--through": through, "--set": setting,
            "--plots": plots,
        }  # fmt: skip
        if given := ", ".join(option for option, is_given in others.items() if is_given):
            raise EvaluationError(f"--card ranks in ways of its own; leave out {given}")
        _card(name, recommenders, as_json, json_file, console)
        return
    names, against = _names(recommenders, baseline, peers, warnings)
    log, default = log_of_dataset(Settings.from_env().home, name)
    settings = _settings(setting or (), names)
    run: dict[str, Any] = {**RUN, **settings.pop("", {})}
    least = default if run["positive"] is None else positive_of(run["positive"])
    refresh, trainings, block, tune = (int(run[one] or 0) for one in ("refresh", "trainings", "block", "tune"))
    validation = bool(run["validation"])
    if tune and validation:
        raise EvaluationError("tune chooses on the validation part and reports on the test; leave validation out")
    if through is Through.KAFKA:
        for one in names:
            check_served(one)
        block = block or refresh  # a round trip a micro-batch would take hours
    terms = Terms(
        protocol.value, k, least, repeats, validation, int(run["micro_batch"]), block or None,
        run["shuffle_sittings"] or 0.0,
    )  # fmt: skip
    kafka = require_kafka(require_redis(Settings.from_env())) if through is Through.KAFKA else None
    as_served = through is Through.SNAPSHOTS
    jobs = [
        Job(one, log, terms, range(seeds), refresh, trainings, settings.get(one, {}), kafka, as_served) for one in names
    ]
    jobs = [one if one.settings else replace(one, trials=trials_of(one.name, tune)) for one in jobs]
    outcomes: dict[str, Sequence[Outcome]] = {}
    left_out: dict[str, str] = {}
    with progress(f"Running {', '.join(names)}", len(jobs)) as bar, suppress(KeyboardInterrupt):
        for one, came in evaluate_all(jobs, int(run["processes"]), run["peer_minutes"] * 60, bar.to):
            if isinstance(came, str):
                left_out[one] = came
            else:
                outcomes[one] = came
            row = came if isinstance(came, str) else line_of(rows_of({one: came}, one, log.users)[0], k)
            say(f"{one}: {row}", bar.console)
    stopped = [one for one in names if one not in outcomes and one not in left_out]
    left_out |= dict.fromkeys(stopped, "stopped")
    if against not in outcomes:
        raise EvaluationError(f"{against}, the baseline, was not evaluated: {left_out[against]}")
    outcomes = {one: outcomes[one] for one in names if one in outcomes}
    rows, questions = rows_of(outcomes, against, log.users), questions_of(outcomes[against])
    notes = notes_of(terms, seeds, questions)
    title = f"{name}: {log.events.size:,} events, {log.users:,} users, {log.items:,} items"
    tables = render(rows, title, against, notes, k, left_out)
    new = new_rows(outcomes, against, log.users, run["new_plays"]) if run["new_plays"] else []
    if new:
        asked = new[0].by_history["count"].sum() // seeds
        title = f"{asked:,} questions of items with fewer than {run['new_plays']:g} earlier plays"
        tables.insert(1, render(new, title, against, [], k)[0])
    elif run["new_plays"]:
        warnings.print("warning: all items that are asked for have more than new_plays earlier plays")
    if questions[0] < LEAST_QUESTIONS:
        warnings.print(f"warning: {questions[0]} questions are too few to tell recommenders apart")
    about = {
        "dataset": {"name": name, "sha256": log.digest, "events": log.events.size, "has_time": log.has_time},
        "protocol": terms.protocol, "figures": "validation" if validation else "test", "k": k, "positive": least,
        "repeats": repeats, "seeds": seeds, "micro_batch": terms.micro_batch, "block": terms.block,
        "refresh": refresh, "through": through, "trainings": trainings, "settings": settings, "baseline": against,
        "left_out": left_out, "questions": questions[0], "shuffle_sittings": terms.shuffle_sittings,
        "tune": tune, "new_plays": run["new_plays"],
    }  # fmt: skip
    figures = figures_of(rows, about)
    if new:
        figures["new_items"] = figures_of(new, {})["recommenders"]
    _show(tables, figures, as_json, json_file, console)
    for path in save_plots(rows, plots, name, terms) if plots is not None else ():
        (warnings if as_json and json_file is None else console).print(f"{path} written")
    if stopped:
        raise typer.Exit(130)


def _card(datasets: str, recommenders: str, as_json: bool, json_file: Path | None, console: Console) -> None:
    """Print the card of the simulator for some datasets, or write it as JSON."""
    from botify.evaluation.card import RECOMMENDERS, card_of, tables_of  # the simulator takes time to import
    from botify.sim.world import DEFAULT as COURSE
    from botify.sim.world import open_world

    names, _ = _names(RECOMMENDERS if recommenders == DEFAULT else recommenders, None, False, console)
    home = Settings.from_env().home
    logs = [log_of_dataset(home, one.strip()) for one in datasets.split(",")]
    with progress("comparing rankings") as bar:
        found = card_of(logs, open_world(home, COURSE), names, lambda step: say(step, bar.console))
    _show(tables_of(found), {"card": found}, as_json, json_file, console)


def _show(
    tables: Sequence[Table], figures: Mapping[str, Any], as_json: bool, json_file: Path | None, console: Console
) -> None:
    """Print the tables or, with --json and without a file, the figures."""
    if as_json and json_file is None:
        print_json(figures)
        return
    for table in tables:
        console.print(table, width=None if console.is_terminal else WIDE)
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def _names(recommenders: str, baseline: str | None, peers: bool, console: Console) -> tuple[list[str], str]:
    """Return the names to run, each once, and the one to compare with."""
    names = [one.strip() for one in recommenders.split(",") if one.strip()]
    if not names:
        raise EvaluationError("--recommenders is empty; name at least one")
    against = baseline or names[0]
    names = list(dict.fromkeys([*names, against]))
    for one in names:
        check_name(one)
    for one in PEERS if peers else ():
        try:
            require_peer(one)
        except MissingPeerError as error:
            console.print(f"left out: {error}", markup=False)
        else:
            names.append(one)
    return list(dict.fromkeys(names)), against


def _settings(texts: Sequence[str], names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return the settings of each peer by its name, and those of the run by an empty name."""
    settings: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for text in texts:
        key, _, value = text.partition("=")
        peer, _, name = key.rpartition(".")
        try:
            number = float(value)
        except ValueError as error:
            raise EvaluationError(f"setting {text!r} is not NAME=NUMBER, such as ease.l2=300 or trainings=5") from error
        if not name or (peer not in names if peer else name not in RUN):
            raise EvaluationError(
                f"setting {text!r} is of none of the recommenders {', '.join(names)}, nor one of {', '.join(RUN)}"
            )
        least = 0 if name in ("positive", "peer_minutes") else 1
        if peer:
            check_setting(peer, name)
        elif not number >= least:
            raise EvaluationError(f"setting {text!r} must be at least {least}")
        settings[peer][name] = number
    return dict(settings)
