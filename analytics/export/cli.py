"""`botify export`: a topic to files."""

from __future__ import annotations

import signal
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from botify.analytics.botify_log.lines import write_log
from botify.analytics.export.files import ExportError
from botify.analytics.export.run import TIME_COLUMNS, Extent, export_topic
from botify.core.cli import progress
from botify.core.kafka.admin import parse_position, require_kafka
from botify.core.process import stop_requested, tune_gc
from botify.core.settings import Settings
from botify.schemas.events import Listen
from botify.schemas.topics import TopicDefinition, Topics

LOG = "log.json"
LISTENS = "_listens"
"""Folder beside the log; readers skip names that begin with an underscore."""


class Format(StrEnum):
    """Format of the output."""

    PARQUET = "parquet"
    BOTIFY_LOG = "botify-log"


def export(
    out: Annotated[Path, typer.Option(help="Output folder; an existing export is resumed.")],
    topic: Annotated[
        str, typer.Option(help="Topic: listens, recommendation-requests, recommendations or sessions.")
    ] = ("listens"),
    begin: Annotated[
        str, typer.Option("--from", help="First record: earliest, offset:N, ts:2026-01-31T12:00:00Z or duration:PT1H.")
    ] = "earliest",
    end: Annotated[
        str, typer.Option("--to", help="End of the records: latest, offset:N or ts:2026-01-31T12:00:00Z.")
    ] = "latest",
    follow: Annotated[bool, typer.Option("--follow", help="Keep exporting new records until Ctrl-C.")] = False,
    format_: Annotated[
        Format,
        typer.Option(
            "--format", help=f"parquet, or botify-log: {LOG} in the course's JSON, from the Parquet in {LISTENS}."
        ),
    ] = Format.PARQUET,
) -> None:
    """Export a topic to files partitioned by day, exactly once even if the export is killed and resumed."""
    settings, now_ms = Settings.from_env(), int(time.time() * 1000)
    extent = Extent(parse_position(begin, now_ms), parse_position(end, now_ms), follow)
    definition = _definition(settings, topic)
    if format_ is Format.BOTIFY_LOG and definition.event is not Listen:
        raise ExportError(f"Botify's log is made of listens; omit --topic {topic}")
    folder = out if format_ is Format.PARQUET else out / LISTENS
    tune_gc()
    settings = require_kafka(settings)
    definition = _definition(settings, topic)  # in the live layout
    # on a signal, rows in memory are written before the export ends
    with stop_requested(signal.SIGINT, signal.SIGTERM) as stopping, progress("exporting") as bar:
        manifest = export_topic(settings, definition, folder, extent, bar.to, stopping=stopping)
    left_out = f", {manifest.rejected:,} dead letters left out" if manifest.rejected else ""
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{folder}: {manifest.rows:,} rows in {len(manifest.files):,} files{left_out}")
    if format_ is Format.BOTIFY_LOG:
        with progress("writing the log"):
            log = write_log(folder, out / LOG)
        left_out = f", {log.left_out:,} listens without a treatment left out" if log.left_out else ""
        console.print(f"{out / LOG}: {log.lines:,} lines{left_out}")


def _definition(settings: Settings, name: str) -> TopicDefinition:
    prefix = f"{settings.topic_prefix}."
    known = {d.name.removeprefix(prefix): d for d in Topics.of(settings).all() if d.event in TIME_COLUMNS}
    if name.removeprefix(prefix) not in known:
        raise ExportError(f"topic {name!r} cannot be exported; choose one of {', '.join(known)}")
    return known[name.removeprefix(prefix)]
