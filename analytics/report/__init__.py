"""`botify report`: experiments, sessions, popularity and pipeline health on one self-contained page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from botify.analytics.data import read_listens
from botify.analytics.exported import open_listens
from botify.analytics.pipeline import read_answers, read_lag
from botify.core.cli import Data, Run, console, progress
from botify.core.kafka.admin import require_kafka
from botify.core.settings import Settings
from botify.schemas.catalogue import read_catalogue
from botify.schemas.events import Track
from botify.schemas.registry import codec_of


@dataclass(frozen=True, slots=True)
class ReportData:
    """The data of one report: listens without copies; answers and lag as `analytics.pipeline`, if it is no export."""

    source: str
    listens: pd.DataFrame
    titles: Mapping[int, str] = field(default_factory=dict)
    answers: pd.DataFrame | None = None
    lag: pd.DataFrame | None = None

    def title_of(self, track: int) -> str:
        return self.titles.get(track, f"track {track}")


def read_from_kafka(
    settings: Settings, run_id: str | None = None, tell: Callable[[float, float], None] = lambda count, total: None
) -> ReportData:
    """Read everything, or one run of the simulator, from the topics; raises `TopicError` if one cannot be read."""
    catalogue = read_catalogue(settings, codec_of(settings))
    return ReportData(
        source=_of_run(f"the topics {settings.topic_prefix}.*", run_id),
        listens=read_listens(settings, run_id, tell=tell),
        titles={track: title_of(known) for track, known in catalogue.items()},
        answers=read_answers(settings, run_id),
        lag=read_lag(settings),
    )


def read_from_export(folder: Path, run_id: str | None = None) -> ReportData:
    """Read the listens that `botify data export` wrote; an export has no titles, requests or lag.

    Raises `AnalyticsError` if it is no export of listens, or has no listens yet.
    """
    with open_listens(folder, run_id) as listens:
        return ReportData(source=_of_run(f"the export {folder.name}", run_id), listens=listens.frame())


def title_of(track: Track) -> str:
    """Return a track's artist and title, and what it is called where it comes from, if that is another name.

    Examples
    --------
    >>> title_of(Track(7, "Kanye West", None, None, "Stronger", "b-7"))
    'Kanye West – Stronger (b-7)'
    >>> title_of(Track(7, "b-7", None, None, "b-7", "b-7"))
    'b-7'
    """
    if track.external_id == track.title == track.artist:
        return track.title
    title = f"{track.artist} – {track.title}"
    return title if track.external_id in (None, track.title) else f"{title} ({track.external_id})"


def _of_run(source: str, run_id: str | None) -> str:
    return source if run_id is None else f"{source}, run {run_id}"


def report(
    out: Annotated[Path, typer.Option(help="HTML file to write; it needs no other files.")] = Path("report.html"),
    run: Run = None,
    data: Data = None,
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
