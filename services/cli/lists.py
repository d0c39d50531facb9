"""`botify models publish`: the lists of the recommenders `contextual`, `i2i`, `similar_users` and `indexed`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from botify.core.cli import Json, console, print_json, progress
from botify.core.kafka.admin import require_kafka
from botify.core.settings import Settings
from botify.core.sql import EngineName, EngineOption, needs_files, open_engine
from botify.schemas.catalogue import read_catalogue
from botify.schemas.external_ids import UserIds
from botify.schemas.models import publish_models
from botify.schemas.registry import codec_of
from botify.services.errors import RecommenderError
from botify.services.lists.build import build_models, build_models_in, files_of, listens_of_topic
from botify.services.lists.publish import read_lists


def publish(
    file: Annotated[
        Path | None, typer.Argument(help="JSON with `users`, `items` or both: name to items, best first.")
    ] = None,
    from_topic: Annotated[bool, typer.Option("--from-topic", help="Build them of the listens of the topic.")] = False,
    data: Annotated[
        Path | None, typer.Option(help="Build them of the Parquet files in this folder (see `botify data export`).")
    ] = None,
    engine: EngineOption = EngineName.DUCKDB,
    neighbours: Annotated[int, typer.Option(min=1, max=200, help="Maximum number of neighbours of a track.")] = 50,
    per_user: Annotated[int, typer.Option(min=1, max=200, help="Maximum number of tracks in a listener's list.")] = 50,
    as_json: Json = False,
) -> None:
    """Publish lists: those of another program, or the neighbours of each track and a list for each listener.

    `indexed` serves the lists of users, `contextual` and `i2i` those of items.
    """
    if sum((file is not None, from_topic, data is not None)) != 1:
        raise RecommenderError("choose one source: a FILE with lists, --from-topic, or --data with Parquet files")
    if engine is not EngineName.DUCKDB and data is None:
        raise RecommenderError(needs_files(engine))
    settings = require_kafka(Settings.from_env())
    if file is not None:
        _publish_file(settings, file, as_json=as_json)
        return
    if data is None:
        with progress("Reading listens"):
            listens = listens_of_topic(settings)
        with progress(f"Building lists from {len(listens):,} listens"):
            models = build_models(listens, neighbours, per_user)
    else:
        with progress(f"Building lists in {engine}"), open_engine(engine) as opened:
            models = build_models_in(opened, files_of(data), neighbours, per_user)
    publish_models(settings, codec_of(settings), models)
    if as_json:
        print_json(
            [
                {"name": model.name, "version": model.version, "bytes": len(model.body), "digest": model.digest}
                for model in models
            ]
        )
        return
    for model in models:
        console.print(f"{model.name}: version {model.version:,}, {len(model.body):,} bytes, {model.digest[:12]}")


def _publish_file(settings: Settings, file: Path, *, as_json: bool) -> None:
    codec = codec_of(settings)
    with progress("Reading the catalogue"):
        tracks = read_catalogue(settings, codec)
    now_s = time.time()
    read = read_lists(file, tracks, UserIds.of(settings), int(now_s), int(now_s * 1000))
    publish_models(settings, codec, read.models)
    if as_json:
        print_json({"lists": read.lists, "unknown": read.unknown})
        return
    for name, count in read.lists.items():
        console.print(f"{name}: {count:,} lists")
    if read.unknown:
        some = ", ".join(read.unknown[:5])
        console.print(f"left out: {len(read.unknown):,} unknown names, such as {some}", style="yellow")
