"""`botify import-log`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from analytics.botify_log.lines import listens_of
from analytics.botify_log.publish import publish_listens
from schemas.catalogue import CatalogueReader
from schemas.events import Listen
from schemas.reachable import require_kafka
from schemas.registry import codec_of
from schemas.settings import Settings


def import_log(
    file: Annotated[Path, typer.Argument(help="Botify's data log: a JSON object a line.", exists=True, dir_okay=False)],
    run: Annotated[
        str | None, typer.Option(help="First part of all session ids; made from the file's content if not given.")
    ] = None,
) -> None:
    """Publish Botify's JSON data log into the topic of listens; twice does no more than once."""
    settings, console = require_kafka(Settings.from_env()), Console()
    run_id = run or f"log{_digest(file)[:8]}"
    with console.status("reading"):  # to the end, so that nothing is published of a log that has a bad line
        known = _known_tracks(settings)
        unknown = sum(listen.track not in known for listen in _read(file, run_id))
    with console.status("publishing"):
        count = publish_listens(settings, _read(file, run_id))
    console.print(f"{count:,} listens of run {run_id}", highlight=False)
    if unknown:
        console.print(
            f"[yellow]{unknown:,} are of tracks that the catalogue lacks:[/] they count in tables, but the worker puts "
            "them with the dead letters. `botify world import` and `botify world publish` bring Botify's catalogue.",
            highlight=False,
        )


def _read(file: Path, run_id: str) -> Iterator[Listen]:
    with file.open(encoding="utf-8") as lines:
        yield from listens_of(lines, run_id)


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _known_tracks(settings: Settings) -> set[int]:
    catalogue = CatalogueReader(settings, codec_of(settings))
    try:
        catalogue.refresh()
    finally:
        catalogue.close()
    return set(catalogue.tracks)
