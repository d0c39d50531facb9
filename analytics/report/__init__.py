"""`botify report`: experiments, sessions, popularity and pipeline health on one self-contained page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from botify.analytics.report.data import read_from_export, read_from_kafka
from botify.core.cli import console, progress
from botify.core.kafka.admin import require_kafka
from botify.core.settings import Settings


def report(
    out: Annotated[Path, typer.Option(help="HTML file to write; it needs no other files.")] = Path("report.html"),
    run: Annotated[str | None, typer.Option(help="Only listens of this simulator run.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder that `botify data export` wrote; default: read the topics.")
    ] = None,
) -> None:
    """Write an HTML report of experiments, sessions, popularity and pipeline health."""
    # matplotlib takes half a second, and every command imports this module
    from botify.analytics.report.sections import render_report

    with progress("reading listens") as bar:
        if data is None:
            read = read_from_kafka(require_kafka(Settings.from_env()), run, bar.advance)
        else:
            read = read_from_export(data, run)
    with progress("drawing"):
        page = render_report(read)
    out.write_text(page, encoding="utf-8")
    console.print(f"{out}: {len(read.listens):,} listens on {len(page) / 1024:,.0f} KB", soft_wrap=True)
