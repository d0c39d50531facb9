"""`botify snapshot`: state to and from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from botify.core.cli import say
from botify.core.settings import Settings
from botify.streams.cli.replay import run_with_sources
from botify.streams.snapshot import load as load_snapshot
from botify.streams.snapshot import save as save_snapshot

app = typer.Typer(help="Save the state to a file, and load it.", no_args_is_help=True)


@app.command("save")
def save(
    file: Annotated[Path, typer.Argument(help="File to write; an existing file is replaced.")],
    namespace: Annotated[str | None, typer.Option(help="Namespace to save; default: the live one.")] = None,
) -> None:
    """Save a namespace and its checkpoints to a file while workers keep running."""
    reached = run_with_sources(Settings.from_env(), lambda sources: save_snapshot(sources, file, namespace))
    say(f"{file}: the state after {sum(reached.values()):,} records, {file.stat().st_size / 1e6:,.1f} MB")


@app.command("load")
def load(
    file: Annotated[Path, typer.Argument(help="File that `botify snapshot save` wrote.")],
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
