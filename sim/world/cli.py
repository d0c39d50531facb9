"""`botify world make`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from botify.core.cli import Json, console, print_json, progress
from botify.core.kafka.admin import require_kafka
from botify.core.settings import Settings
from botify.sim import WorldError
from botify.sim.loop.kafka import publish_catalogue
from botify.sim.world import DEFAULT, World, WorldConfig, find_world, open_world
from botify.sim.world.reading import import_world
from botify.sim.world.store import save_world, worlds_directory


def make(
    tracks: Annotated[Path | None, typer.Option(help="Botify's tracks.json: one JSON object per line.")] = None,
    users: Annotated[Path | None, typer.Option(help="Botify's users.json: one JSON object per line.")] = None,
    embeddings: Annotated[
        Path | None, typer.Option(help="An .npy file with one row per track; default: generated from the artists.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file with settings; missing settings keep their defaults.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Random seed of the world.")] = None,
    named: Annotated[str | None, typer.Option("--world", help="Name or directory of a world that is there.")] = None,
    publish: Annotated[
        bool, typer.Option("--publish", help="Publish its catalogue, so that recommenders serve before listens.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Generate a world, or make one of the original Botify's files, and list all; one that exists is used again."""
    if (tracks is None) != (users is None):
        raise WorldError("a world of Botify's files needs both --tracks and --users")
    settings = require_kafka(Settings.from_env()) if publish else Settings.from_env()
    with progress("making the world"):
        if named is not None:
            world = find_world(settings.home, named)
        elif tracks is not None and users is not None:
            world = import_world(tracks, users, embeddings, _read(config, seed))
            save_world(settings.home, world)
        else:
            world = open_world(settings.home, _read(config, seed))
        written = publish_catalogue(settings, world.catalogue) if publish else None
    if as_json:
        print_json([_about(one) for one in _stored(settings.home)])
        return
    catalogue = world.catalogue
    console.print(
        f"World [bold]{world.name}[/bold]: {len(catalogue):,} tracks of {len(catalogue.artists):,} artists, "
        f"{len(world.listeners):,} listeners. Use it with `botify sim --world {world.name}`."
    )
    table = Table("world", "tracks", "listeners", "made of")
    for one in _stored(settings.home):
        table.add_row(one.name, f"{len(one.catalogue):,}", f"{len(one.listeners):,}", _made_of(one))
    console.print(table)
    if written is not None:
        console.print(f"published {written:,} tracks" if written else "the topic holds this catalogue already")


def _stored(home: Path) -> list[World]:
    return [find_world(home, manifest.parent.name) for manifest in sorted(worlds_directory(home).glob("*/world.json"))]


def _about(world: World) -> dict[str, object]:
    return {"name": world.name, "tracks": len(world.catalogue), "listeners": len(world.listeners), **world.about}


def _made_of(world: World) -> str:
    if "fitted" in world.about:
        return f"fitted to {world.about['fitted']['dataset']}"
    return ", ".join(world.about.get("imported", [f"seed {world.about.get('seed')}"]))


def _read(path: Path | None, seed: int | None) -> WorldConfig:
    config = DEFAULT if path is None else WorldConfig.from_toml(path)
    return config if seed is None else replace(config, seed=seed)
