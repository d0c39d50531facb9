"""`botify snapshot`: state to and from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from core.settings import Settings
from streams.cli.replay import run_with_sources
from streams.snapshot import load as load_snapshot
from streams.snapshot import save as save_snapshot

app = typer.Typer(help="State to and from one file.", no_args_is_help=True)
console = Console()


@app.command("save")
def save(
    file: Annotated[Path, typer.Argument(help="A file that is there already is replaced.")],
    namespace: Annotated[str | None, typer.Option(help="Which state; the live one if not given.")] = None,
) -> None:
    """Write a namespace, with its checkpoints, to a file; workers go on meanwhile."""
    reached = run_with_sources(Settings.from_env(), lambda sources: save_snapshot(sources, file, namespace))
    _say(f"{file}: the state after {sum(reached.values()):,} records, {file.stat().st_size / 1e6:,.1f} MB")


@app.command("load")
def load(
    file: Annotated[Path, typer.Argument()],
    other_topic: Annotated[
        bool, typer.Option("--other-topic", help="Even if the topic it was folded from is gone.")
    ] = False,
) -> None:
    """Load a file into a namespace of its own; nothing else is touched."""
    record = run_with_sources(
        Settings.from_env(), lambda sources: load_snapshot(sources, file, other_topic=other_topic)
    )
    _say(f"loaded as {record.id}; `botify replay swap {record.id}` lets it catch up and makes it the live one")


def _say(message: str) -> None:
    console.print(message, highlight=False, markup=False, soft_wrap=True)
