"""`botify inspect`: what Redis knows, in words."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from core.kafka.admin import require_kafka
from core.kafka.config import partition_of
from core.settings import Settings
from schemas.catalogue import CatalogueReader
from schemas.event_time import utc
from schemas.events import Track
from schemas.registry import codec_of
from services.errors import StateError
from streams.folds.popularity import HALF_LIVES_MS, popularity_at
from streams.read import StateReader
from streams.store.connect import connect, require_redis

app = typer.Typer(help="Show the state that Redis holds.", no_args_is_help=True)
console = Console()


@app.command("user")
def user(user: Annotated[int, typer.Argument(min=0, help="Id of the listener.")]) -> None:
    """Show a listener's totals, current session and latest listens."""
    settings = require_kafka(require_redis(Settings.from_env()))
    reader = StateReader(connect(settings), settings)
    (state,) = reader.users([user])
    if state is None:
        raise StateError(f"listener {user} was never heard (namespace {reader.namespace})")
    tracks = _catalogue(settings)
    console.print(
        f"listener [bold]{user}[/]: {state.listens:,} listens in {state.sessions:,} sessions; "
        f"session {escape(state.session_id)} with {state.session_listens} listens, "
        f"the last {state.poor_streak} of them poor; "
        f"partition {partition_of(user, settings.partitions)} of namespace {reader.namespace}"
    )
    table = Table(title="last listens, newest first")
    table.add_column("time (UTC)")
    table.add_column("heard", justify="right")
    table.add_column("track", justify="right")
    table.add_column("title")
    table.add_column("artist")
    for listen in state.last_listens()[::-1].tolist():
        _, timestamp_ms, fraction, track = listen
        table.add_row(utc(timestamp_ms), f"{fraction:.0%}", str(track), *_names(tracks.get(track)))
    console.print(table)


@app.command("popular")
def popular(
    half_life: Annotated[str, typer.Option(help=f"Half-life of the popularity: {', '.join(HALF_LIVES_MS)}.")] = "1d",
    count: Annotated[int, typer.Option(min=1, max=1000, help="Number of tracks to show.")] = 20,
) -> None:
    """Show the most popular tracks."""
    if half_life not in HALF_LIVES_MS:
        raise StateError(f"half-life {half_life!r} is not one of {', '.join(HALF_LIVES_MS)}")
    settings = require_kafka(require_redis(Settings.from_env()))
    reader = StateReader(connect(settings), settings)
    ranked, scores = reader.top_tracks(half_life, count)
    if not len(ranked):
        raise StateError(f"namespace {reader.namespace} has no listens yet; `botify sim run` makes some")
    now_ms = reader.event_time_ms()
    tracks = _catalogue(settings)
    table = Table(title=f"most popular with a half-life of {half_life}, at {utc(now_ms)} UTC of event time")
    for heading in ("rank", "popularity", "track"):
        table.add_column(heading, justify="right")
    table.add_column("title")
    table.add_column("artist")
    values = popularity_at(scores, half_life, now_ms)
    for rank, (track, value) in enumerate(zip(ranked.tolist(), values.tolist(), strict=True), start=1):
        table.add_row(str(rank), f"{value:,.2f}", str(track), *_names(tracks.get(track)))
    console.print(table)
    console.print("popularity: sum of the fractions heard, each halved with every half-life that has passed since")


def _catalogue(settings: Settings) -> dict[int, Track]:
    reader = CatalogueReader(settings, codec_of(settings))
    try:
        reader.refresh()
    finally:
        reader.close()
    return reader.tracks


def _names(track: Track | None) -> tuple[str, str]:
    return (escape(track.title), escape(track.artist)) if track else ("?", "?")
