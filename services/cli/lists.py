"""`botify lists build`: what `contextual`, `i2i`, `similar_users` and `indexed` recommend from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from core.kafka.reachable import require_kafka
from core.settings import Settings
from schemas.models import publish_models
from schemas.registry import codec_of
from services.errors import RecommenderError
from services.lists.build import build_models, heard_of_parquet, heard_of_topic

app = typer.Typer(help="Lists that a batch job makes for recommenders.", no_args_is_help=True)


@app.callback()
def _lists() -> None:
    """Keep `build` a sub-command although it is the only one."""


@app.command()
def build(
    from_topic: Annotated[bool, typer.Option("--from-topic", help="Read the listens that Kafka holds.")] = False,
    data: Annotated[Path | None, typer.Option(help="Read the Parquet files in this folder.")] = None,
    neighbours: Annotated[int, typer.Option(min=1, max=200, help="Neighbours of a track, at most.")] = 50,
    per_user: Annotated[int, typer.Option(min=1, max=200, help="Tracks on a listener's list, at most.")] = 50,
) -> None:
    """Make every track's neighbours and every listener's list out of listens, and hand them to the recommenders."""
    if from_topic == (data is not None):
        raise RecommenderError("say where the listens are: --from-topic, or --data and a folder of Parquet files")
    settings, console = Settings.from_env(), Console()
    require_kafka(settings)  # where the lists go, too
    with console.status("Reading listens"):
        heard = heard_of_topic(settings) if data is None else heard_of_parquet(data)
    with console.status(f"Making lists of {len(heard.events):,} listens"):
        models = build_models(heard, neighbours, per_user)
        publish_models(settings, codec_of(settings), models)
    for model in models:
        console.print(f"{model.name}: version {model.version:,}, {len(model.body):,} bytes, {model.digest[:12]}")
