"""`botify replay models`."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from schemas.events import Model
from schemas.reachable import require_kafka
from schemas.settings import Settings
from streams.replay.models import Relearned, relearn
from streams.store.connect import require_redis

console = Console()


def models(
    save: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write each model's bytes to a file there.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Learn the models again from offset 0, and compare them with the learner's; exit with 1 where any byte differs."""
    settings = require_kafka(require_redis(Settings.from_env()))
    columns = (TextColumn("learning"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        done = asyncio.run(relearn(settings, lambda records, total: bar.update(task, advance=records, total=total)))
    if save is not None:
        save.mkdir(parents=True, exist_ok=True)
        for model in done.models.values():
            (save / f"{model.name}-{model.version}.model").write_bytes(model.body)
    if as_json:
        sys.stdout.write(json.dumps(_as_dict(done), indent=2) + "\n")
    else:
        _show(done)
    if done.equals_live is False:
        raise typer.Exit(1)


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
    _say(
        f"{done.listens:,} listens from {done.next_offset:,} records in {done.seconds:.1f} s; "
        f"{done.missed:,} were never brought by a record"
    )
    _say(_VERDICTS[done.equals_live])


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
    return {
        "next_offset": done.next_offset,
        "listens": done.listens,
        "missed": done.missed,
        "seconds": done.seconds,
        "equals_live": done.equals_live,
        "models": {name: _described(model) for name, model in done.models.items()},
        "live": {name: _described(model) for name, model in done.live.items()},
    }


def _described(model: Model) -> dict[str, Any]:
    return {"version": model.version, "bytes": len(model.body), "sha256": model.digest}


def _say(message: str) -> None:
    console.print(message, highlight=False, markup=False, soft_wrap=True)
