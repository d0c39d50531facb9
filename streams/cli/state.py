"""`botify verify`, `botify replay save` and `load`: state and models compared with the topics, and in files."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table

from botify.core.cli import Json, console, print_json, progress, say
from botify.core.kafka.admin import require_kafka
from botify.core.settings import MOST_SHARDS, Settings
from botify.schemas.events import Model
from botify.streams.cli.replay import run_with_sources
from botify.streams.replay.models import (
    Relearned,
    Swapped,
    copy_training,
    rebuild,
    relearn,
    require_no_workers,
    rollback_models,
    swap_models,
)
from botify.streams.replay.sources import ReplayError
from botify.streams.snapshot import load as load_snapshot
from botify.streams.snapshot import save as save_snapshot
from botify.streams.store.connect import require_redis
from botify.streams.verify import MOVE_S, Difference, Report
from botify.streams.verify import verify as verify_namespace


def verify(
    id_: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="With --models --swap: id of the rebuilt models.")
    ] = None,
    namespace: Annotated[str | None, typer.Option(help="Namespace to verify; default: the live one.")] = None,
    one_by_one: Annotated[
        bool,
        typer.Option("--one-by-one", help="Fold listen by listen, as the rules are written; several times slower."),
    ] = False,
    models: Annotated[
        bool, typer.Option("--models", help="Retrain the models from offset 0, and compare them instead of the state.")
    ] = False,
    make: Annotated[
        bool,
        typer.Option("--rebuild", help="With --models: rebuild them in a new namespace, without excluded listens."),
    ] = False,
    swap: Annotated[
        bool,
        typer.Option("--swap", help="With --models: publish rebuilt ones; learners switch to them within a second."),
    ] = False,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="With --models: restore those from before the last swap.")
    ] = False,
    shards: Annotated[
        int | None,
        typer.Option(min=1, max=MOST_SHARDS, help="With --rebuild or --swap: for another BOTIFY_LEARNER_SHARDS."),
    ] = None,
    save_to: Annotated[
        Path | None,
        typer.Option("--save", metavar="FOLDER", help="With --models: write the bytes of each into this folder."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Fold the topic offline and compare it with every item in Redis.

    Exits with 1 if any item differs, or if records wait and no worker folds them. With --models it compares the models,
    and exits with 1 if any byte differs; with --rebuild these are kept, and with --swap the learner uses them. With
    --shards they are rebuilt for another number of shards, from a copy of the training topic: workers and learners are
    stopped for the swap, and started with the new number.
    """
    of_models = make or swap or rollback or id_ is not None or shards is not None or save_to is not None
    if (of_models and not models) or (models and (one_by_one or namespace is not None)):
        raise ReplayError(
            "ID, --rebuild, --swap, --rollback, --shards and --save go with --models; "
            "--namespace and --one-by-one go without"
        )
    if rollback + (make or swap) + (save_to is not None) > 1 or (id_ is not None) != (swap and not make):
        raise ReplayError("use --rebuild, --rebuild --swap, --swap ID or --rollback, or none of them to compare")
    if shards is not None and not (make or swap):
        raise ReplayError("--shards goes with --rebuild or --swap")
    settings = require_kafka(require_redis(Settings.from_env()))
    if make or swap:
        _replace_models(settings, id_, make=make, swap=swap, shards=shards, as_json=as_json)
    elif rollback:
        _show_swapped(asyncio.run(rollback_models(settings)), as_json=as_json)
    elif models:
        _verify_models(settings, save_to, as_json=as_json)
    else:
        _verify_state(settings, namespace, one_by_one=one_by_one, as_json=as_json)


def _verify_state(settings: Settings, namespace: str | None, *, one_by_one: bool, as_json: bool) -> None:
    with progress("folding") as bar:
        report = verify_namespace(settings, namespace, progress=bar.advance, one_by_one=one_by_one)
    if as_json:
        print_json({**asdict(report), "ok": report.ok})
    else:
        _show(report)
    if not report.ok or report.standing or (report.feedback and report.feedback.standing):
        raise typer.Exit(1)


def _show(report: Report) -> None:
    table = Table("collection", title=f"namespace {report.namespace}")
    table.add_column("items compared", justify="right")
    said = report.feedback or Report("")
    for name, items in report.compared.items():
        table.add_row(name, f"{items + said.compared.get(name, 0):,}")
    console.print(table)
    rate = report.records / report.seconds if report.seconds else 0.0
    console.print(
        f"folded {report.listens:,} listens ({report.duplicates:,} of them duplicates) and left out "
        f"{report.dead_letters:,} dead letters in {report.seconds:.1f} s, {rate:,.0f} a second"
    )
    for difference in (*report.differences, *said.differences):
        console.print(_line(difference), markup=False, highlight=False, soft_wrap=True)
    for one, topic in ((report, "listens"), (said, "feedback")):
        if one.unfolded:
            console.print(f"{one.unfolded:,} records of the {topic} after the checkpoints are not folded yet")
        if one.standing:
            console.print(
                f"[red]nobody folds partitions {one.standing} of the {topic}[/]: their checkpoints have not moved for "
                f"{MOVE_S:.0f} s; see `botify status` and the workers' log",
                soft_wrap=True,
            )
    if report.ok:
        as_far = " up to the checkpoints" if report.unfolded or said.unfolded else ""
        console.print(f"[green]the state equals the fold of the topic[/]{as_far}")
    else:
        console.print(f"[red]{report.differing + said.differing:,} items differ[/]; the first are above")
        if report.excluded_since:
            console.print(excluded_hint(report.excluded_since, "replay run", "replay swap ID"), soft_wrap=True)


def _line(difference: Difference) -> str:
    where = f"partition {difference.partition} {difference.collection} {difference.item.decode(errors='replace')}"
    return f"{where}: expected {_text(difference.expected)}, found {_text(difference.found)}"


def _text(value: bytes | float | None) -> str:
    if value is None:
        return "nothing"
    return value.hex() if isinstance(value, bytes) else repr(value)


def _verify_models(settings: Settings, save_to: Path | None, *, as_json: bool) -> None:
    with progress("learning") as bar:
        done = asyncio.run(relearn(settings, bar.advance))
    if save_to is not None:
        save_to.mkdir(parents=True, exist_ok=True)
        for model in done.models.values():
            (save_to / f"{model.name}-{model.version}.model").write_bytes(model.body)
    if as_json:
        print_json(_as_dict(done))
    else:
        _show_models(done)
    if done.equals_live is False:
        raise typer.Exit(1)


def _replace_models(
    settings: Settings, id_: str | None, *, make: bool, swap: bool, shards: int | None, as_json: bool
) -> None:
    if shards is not None:
        if swap:
            require_no_workers(settings)
        with progress("copying training batches") as bar:
            settings = copy_training(settings, shards, bar.advance)
    if make:
        with progress("learning") as bar:
            made = asyncio.run(rebuild(settings, bar.advance))
        id_ = made.id
        if not swap:
            if as_json:
                print_json(asdict(made))
            else:
                say(f"rebuilt the models as {made.id}; `botify verify --models --swap {made.id}` makes them live")
            return
    with progress("learning") as bar:
        swapped = asyncio.run(swap_models(settings, id_ or "", bar.advance))
    _show_swapped(swapped, as_json=as_json)


def _show_swapped(swapped: Swapped, *, as_json: bool) -> None:
    if as_json:
        models = {model.name: _described(model) for model in swapped.models}
        fields = {"namespace": swapped.namespace, "former": swapped.former, "models": models}
        print_json(fields)
        return
    published = ", ".join(f"{model.name} after {model.version:,} listens" for model in swapped.models)
    say(f"{swapped.namespace} is live; `botify verify --models --rollback` goes back to {swapped.former}")
    say(f"published {published}" if published else "no snapshot is due yet, so recommenders keep their models")


def _show_models(done: Relearned) -> None:
    table = Table(title="models, learned again", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("model", no_wrap=True)
    for heading in ("after listens", "bytes"):
        table.add_column(heading, justify="right")
    table.add_column("SHA-256", no_wrap=True)
    table.add_column("the learner's")
    for name, model in done.models.items():
        table.add_row(name, f"{model.version:,}", f"{len(model.body):,}", model.digest[:16], _compared(model, done))
    if done.models:
        console.print(table)
    say(
        f"{done.listens:,} listens from {done.next_offset:,} records in {done.seconds:.1f} s; "
        f"{done.missed:,} were never brought by a record"
    )
    say(_VERDICTS[done.equals_live])
    if done.equals_live is False and done.excluded_since:
        say(excluded_hint(done.excluded_since, "verify --models --rebuild", "verify --models --swap ID"))


def excluded_hint(excluded: int, make: str, swap: str) -> str:
    """Say that exclusions explain differences, and which commands end them."""
    return (
        f"{excluded:,} listens were excluded since this was begun, which is the likely cause: `botify {make}` "
        f"rebuilds it without them, `botify {swap}` makes that live"
    )


_VERDICTS = {
    True: "the learner's state equals this, byte for byte",
    False: "the learner's state DIFFERS from this",
    None: "no learner has written its state yet, so there was nothing to compare with",
}


def _compared(model: Model, done: Relearned) -> str:
    live = done.live.get(model.name)
    if live is None:
        return "none"
    return "equal" if live == model else f"DIFFERS: {live.version:,}, {live.digest[:16]}"


def _as_dict(done: Relearned) -> dict[str, Any]:
    plain = ("next_offset", "listens", "missed", "seconds", "equals_live", "excluded_since")
    return {name: getattr(done, name) for name in plain} | {
        "models": {name: _described(model) for name, model in done.models.items()},
        "live": {name: _described(model) for name, model in done.live.items()},
    }


def _described(model: Model) -> dict[str, Any]:
    return {"version": model.version, "bytes": len(model.body), "sha256": model.digest}


def save(
    file: Annotated[Path, typer.Argument(help="File to write; an existing file is replaced.")],
    namespace: Annotated[str | None, typer.Option(help="Namespace to save; default: the live one.")] = None,
) -> None:
    """Save a namespace and its checkpoints to a file while workers keep running."""
    reached = run_with_sources(Settings.from_env(), lambda sources: save_snapshot(sources, file, namespace))
    say(f"{file}: the state after {sum(reached.values()):,} records, {file.stat().st_size / 1e6:,.1f} MB")


def load(
    file: Annotated[Path, typer.Argument(help="File that `botify replay save` wrote.")],
    other_topic: Annotated[
        bool,
        typer.Option("--other-topic", help="Load even if the topic that the state was folded from no longer exists."),
    ] = False,
) -> None:
    """Load a file into a new namespace; other namespaces do not change."""
    record = run_with_sources(
        Settings.from_env(), lambda sources: load_snapshot(sources, file, other_topic=other_topic)
    )
    say(f"loaded as {record.id}; `botify replay swap {record.id}` lets it catch up and makes it the live one")
