"""`botify replay models`."""

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
from botify.streams.store.connect import require_redis


def models(
    id_: Annotated[str | None, typer.Argument(metavar="ID", help="Id of the rebuilt models, for --swap.")] = None,
    make: Annotated[
        bool, typer.Option("--rebuild", help="Rebuild the models in a new namespace, without excluded listens.")
    ] = False,
    swap: Annotated[
        bool, typer.Option("--swap", help="Publish rebuilt models; learners switch to them within a second.")
    ] = False,
    rollback: Annotated[bool, typer.Option("--rollback", help="Restore the models from before the last swap.")] = False,
    shards: Annotated[
        int | None,
        typer.Option(min=1, max=MOST_SHARDS, help="With --rebuild or --swap: for another BOTIFY_LEARNER_SHARDS."),
    ] = None,
    save: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write the bytes of each model to a file in this folder.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Retrain the models from offset 0 and compare them with the learner's; exit with 1 if any byte differs.

    With --rebuild the models are kept; with --swap the learner uses them: `botify replay models --rebuild --swap`.
    With --shards the models are rebuilt for another number of shards, from a copy of the training topic. Workers and
    learners are stopped for the swap, and started with the new number.
    """
    if rollback + (make or swap) + (save is not None) > 1 or (id_ is not None) != (swap and not make):
        raise ReplayError("use --rebuild, --rebuild --swap, --swap ID or --rollback, or none of them to compare")
    if shards is not None and not (make or swap):
        raise ReplayError("--shards goes with --rebuild or --swap")
    settings = require_kafka(require_redis(Settings.from_env()))
    if shards is not None:
        if swap:
            require_no_workers(settings)
        with progress("copying training batches") as bar:
            settings = copy_training(settings, shards, bar.advance)
    if rollback:
        _show_swapped(asyncio.run(rollback_models(settings)), as_json=as_json)
        return
    if not make and not swap:
        _compare(settings, save, as_json=as_json)
        return
    chosen = id_ or ""
    if make:
        with progress("learning") as bar:
            made = asyncio.run(rebuild(settings, bar.advance))
        chosen = made.id
        if not swap:
            if as_json:
                print_json(asdict(made))
            else:
                say(f"rebuilt the models as {made.id}; `botify replay models --swap {made.id}` makes them live")
            return
    with progress("learning") as bar:
        swapped = asyncio.run(swap_models(settings, chosen, bar.advance))
    _show_swapped(swapped, as_json=as_json)


def _compare(settings: Settings, save: Path | None, *, as_json: bool) -> None:
    with progress("learning") as bar:
        done = asyncio.run(relearn(settings, bar.advance))
    if save is not None:
        save.mkdir(parents=True, exist_ok=True)
        for model in done.models.values():
            (save / f"{model.name}-{model.version}.model").write_bytes(model.body)
    if as_json:
        print_json(_as_dict(done))
    else:
        _show(done)
    if done.equals_live is False:
        raise typer.Exit(1)


def _show_swapped(swapped: Swapped, *, as_json: bool) -> None:
    if as_json:
        models = {model.name: _described(model) for model in swapped.models}
        fields = {"namespace": swapped.namespace, "former": swapped.former, "models": models}
        print_json(fields)
        return
    published = ", ".join(f"{model.name} after {model.version:,} listens" for model in swapped.models)
    say(f"{swapped.namespace} is live; `botify replay models --rollback` goes back to {swapped.former}")
    say(f"published {published}" if published else "no snapshot is due yet, so recommenders keep their models")


def _show(done: Relearned) -> None:
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
        say(excluded_hint(done.excluded_since, "replay models --rebuild", "replay models --swap ID"))


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
