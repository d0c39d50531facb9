"""`botify data`: real logs in, as datasets, and out to the topics."""

from __future__ import annotations

import signal
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import pyarrow.parquet as pq
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from botify.core.cli import Json, console, print_json, progress, say
from botify.core.kafka.admin import require_kafka
from botify.core.process import stop_requested, tune_gc
from botify.core.settings import Settings
from botify.ingest.dataset import EVENTS, KINDS, Card, Dataset, DatasetError, dataset_names, open_dataset
from botify.ingest.following import follow_topic
from botify.ingest.formats import FORMATS
from botify.ingest.importing import Request, import_dataset, parse_map
from botify.ingest.mapping import RecordMapping
from botify.ingest.publishing import publish_dataset
from botify.ingest.sample import write_sample
from botify.schemas.event_time import parse_speed
from botify.schemas.external_ids import datasets_directory

ROWS = 5  # events that are shown of a dataset


def import_(
    source: Annotated[str, typer.Argument(help=f"Format of the log: {', '.join(FORMATS)}.")],
    path: Annotated[str, typer.Argument(help="A file, a folder, an archive, or ARCHIVE!PLACE inside one.")],
    to: Annotated[str, typer.Option(help="Name of the dataset.")],
    map_: Annotated[
        str | None,
        typer.Option(
            "--map",
            help="For csv, parquet and jsonl: user=COLUMN,item=COLUMN, and any of time, played, duration, rating, "
            "event, session, organic, title, artist, genre, release, mood, year, country, vector.",
        ),
    ] = None,
    rating_scale: Annotated[str, typer.Option(help="Ratings that stand for 0 and 1.")] = "1-5",
    force: Annotated[bool, typer.Option("--force", help="Replace a dataset of this name.")] = False,
    sample: Annotated[
        bool,
        typer.Option("--sample", help="If the csv file is missing, make one up: user, item, time, title and artist."),
    ] = False,
) -> None:
    """Import a log as a dataset; an import that was killed is resumed by the same command."""
    request = Request(source, path, parse_map(map_) if map_ else {}, _scale(rating_scale))
    if sample:
        if source != "csv":
            raise DatasetError(f"--sample makes up a csv file; omit it to import {source}")
        if not Path(path).exists():
            write_sample(Path(path))
    with progress("importing") as bar:
        dataset = import_dataset(
            Settings.from_env().home,
            to,
            request,
            force=force,
            progress=lambda what, done, total: bar.to(done, total or None, what),
        )
    card = dataset.card
    rejected = f", {card.rejected:,} rows rejected (`botify data list {to}` says why)" if card.rejected else ""
    say(f"{to}: {card.events:,} events of {card.users:,} users and {card.items:,} items{rejected}\n{dataset.directory}")


def list_(
    name: Annotated[str | None, typer.Argument(help="A dataset, to show its card, events and rejected rows.")] = None,
    as_json: Json = False,
) -> None:
    """List the datasets, or show one: its card, its first events, and why rows were rejected."""
    home = Settings.from_env().home
    if name is not None:
        _show(open_dataset(home, name), as_json=as_json)
        return
    names = dataset_names(home)
    if as_json:
        print_json([{"name": name, **asdict(open_dataset(home, name).card)} for name in names])
        return
    if not names:
        say(f"no dataset in {datasets_directory(home)}; `botify data import` makes one")
        return
    table = _table("dataset", "source", "events", "users", "items", "rejected", "from", "to")
    for name in names:
        card = open_dataset(home, name).card
        counts = (f"{count:,}" for count in (card.events, card.users, card.items, card.rejected))
        table.add_row(name, card.source, *counts, *((moment or "")[:10] for moment in (card.start, card.end)))
    console.print(table)


def _show(dataset: Dataset, *, as_json: bool) -> None:
    if as_json:
        print_json(dataset.card)
        return
    console.print(_card_table(dataset.card))
    console.print(_first_events(dataset))
    reasons = dataset.rejected().group_by("reason", use_threads=False).aggregate([("row", "count"), ("raw", "first")])
    if len(reasons):
        table = _table("rows", "rejected because", "for example")
        for row in reasons.sort_by([("row_count", "descending")]).to_pylist():
            table.add_row(f"{row['row_count']:,}", escape(row["reason"]), escape(row["raw_first"][:60]))
        console.print(table)


def publish(
    name: Annotated[str, typer.Argument(help="Name of the dataset.")],
    speed: Annotated[str, typer.Option(help="How much faster than it was, as 1x or 60x; or max.")] = "max",
    simulated: Annotated[
        bool, typer.Option("--simulated", help="Have the topic accept times in the future, for good.")
    ] = False,
    append: Annotated[
        bool, typer.Option("--append", help="Publish although the topics hold an earlier import of the dataset.")
    ] = False,
) -> None:
    """Send a dataset's catalogue and listens to their topics; a publisher that was killed is resumed, exactly once."""
    pace, settings = parse_speed(speed), require_kafka(Settings.from_env())
    dataset = open_dataset(settings.home, name)
    with stop_requested(signal.SIGINT, signal.SIGTERM) as stopping, progress("publishing") as bar:
        done = publish_dataset(
            settings, dataset, pace, simulated=simulated, append=append, progress=bar.to, stopping=stopping
        )
    resumed = f", from event {done.first:,} on" if done.first else ""
    rest = "" if done.after == done.events else f"; {done.events - done.after:,} are left, the same command continues"
    say(f"{name}: {done.tracks:,} tracks and {done.after - done.first:,} listens published{resumed}{rest}")
    if done.refused:
        say(
            f"{done.refused:,} of these listens are dead letters: they lie further in the future than the topic allows "
            "(`botify dlq list`); correct the log, or publish simulated times with --simulated",
            Console(stderr=True),
        )
        raise typer.Exit(1)


def follow(
    topic: Annotated[str, typer.Argument(help="A topic of somebody else's records.")],
    map_: Annotated[
        str,
        typer.Option(
            "--map",
            help="Where records have what: user=PATH,item=PATH, and any of time, fraction (or a number), session, "
            "kind, schema (file with the Avro schema of the records); or a TOML file of these.",
        ),
    ],
    until_end: Annotated[bool, typer.Option("--until-end", help="Stop at the end of the topic as it is now.")] = False,
) -> None:
    """Make listens of another topic's records as they come, each exactly once; those that do not map: dead letters."""
    mapping, settings = RecordMapping.parse(map_), require_kafka(Settings.from_env())
    tune_gc()
    with stop_requested(signal.SIGINT, signal.SIGTERM) as stopping, progress(f"following {topic}") as bar:
        done = follow_topic(settings, topic, mapping, until_end=until_end, progress=bar.to, stopping=stopping)
    lost = f"; {done.lost:,} records were gone before" if done.lost else ""
    letters = f", {done.letters:,} dead letters (`botify dlq list --topic {topic}`)" if done.letters else ""
    say(f"{topic}: {done.listens:,} listens{letters}{lost}; the same command continues")


def _scale(text: str) -> tuple[float, float]:
    lowest, _, highest = text.partition("-")
    try:
        scale = float(lowest), float(highest)
    except ValueError:
        scale = 0.0, 0.0
    if scale[0] >= scale[1]:
        raise DatasetError(f"--rating-scale {text!r} is not LOWEST-HIGHEST, such as 1-5")
    return scale


_NUMBERS = ("events", "users", "items", "rejected", "rows", "time_ms", "fraction", "session")


def _table(*names: str) -> Table:
    """Return an empty table whose values are never cut."""
    table = Table(box=None)
    for name in names:
        table.add_column(name, justify="right" if name in _NUMBERS else "left", overflow="fold")
    return table


def _card_table(card: Card) -> Table:
    table = Table(show_header=False, box=None)
    shares = ("density", "ties", "repeats")
    for field, value in asdict(card).items():
        if isinstance(value, dict):
            shown = ", ".join(f"{count:,} {kind}" for kind, count in value.items())
        elif isinstance(value, list):
            shown = "\n".join(value)
        elif field in shares:
            shown = f"{value:.2%}"
        else:
            shown = "" if value is None else f"{value:,}" if type(value) is int else str(value)
        table.add_row(field, escape(shown))
    return table


def _first_events(dataset: Dataset) -> Table:
    users, items = dataset.external_users, dataset.external_items
    table = _table("user", "item", "time_ms", "kind", "fraction", "session")
    for row in next(pq.ParquetFile(dataset.directory / EVENTS).iter_batches(ROWS)).to_pylist():
        table.add_row(
            escape(users[row["user"]]),
            escape(items[row["item"]]),
            str(row["time_ms"]),
            KINDS[row["kind"]],
            f"{row['fraction']:.2f}",
            str(row["session"]),
        )
    return table
