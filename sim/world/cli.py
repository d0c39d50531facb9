"""`botify world`: generate, import, publish and list worlds."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from botify.core.cli import Json, console, print_json, progress
from botify.core.kafka.admin import require_kafka
from botify.core.settings import Settings
from botify.sim.loop.kafka import publish_catalogue
from botify.sim.world import DEFAULT, World, WorldConfig, find_world, open_world
from botify.sim.world.reading import import_world
from botify.sim.world.store import save_world, worlds_directory

GROUP = "botify.world"  # entry points by which other packages add commands to this group

app = typer.Typer(help="Create and inspect worlds: the tracks and listeners of a simulation.", no_args_is_help=True)
for _entry in entry_points(group=GROUP):
    app.command(_entry.name)(_entry.load())

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="TOML file with settings; missing settings keep their defaults.")
]
Seed = Annotated[int | None, typer.Option(help="Random seed of the world.")]


@app.command()
def generate(config: ConfigFile = None, seed: Seed = None) -> None:
    """Generate a world, or reuse it if it exists."""
    with progress("generating"):
        world = open_world(Settings.from_env().home, _read(config, seed))
    _show(world)


@app.command("import")
def import_(
    tracks: Annotated[Path, typer.Option(help="Botify's tracks.json: one JSON object per line.")],
    users: Annotated[Path, typer.Option(help="Botify's users.json: one JSON object per line.")],
    embeddings: Annotated[
        Path | None, typer.Option(help="An .npy file with one row per track; default: generated from the artists.")
    ] = None,
    config: ConfigFile = None,
    seed: Seed = None,
) -> None:
    """Create a world from the files of the original Botify."""
    with progress("importing"):
        world = import_world(tracks, users, embeddings, _read(config, seed))
        save_world(Settings.from_env().home, world)
    _show(world)


@app.command()
def publish(
    world: Annotated[
        str | None, typer.Option(help="Name or directory of the world; default: the default world.")
    ] = None,
) -> None:
    """Publish the catalogue to its topic, so that recommenders can serve before the first listen."""
    settings = require_kafka(Settings.from_env())
    with progress("publishing"):
        opened = _open(settings.home, world)
        written = publish_catalogue(settings, opened.catalogue)
    console.print(f"wrote {written:,} tracks" if written else "the topic holds this catalogue already")


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the worlds of the data directory."""
    home = Settings.from_env().home
    worlds = [
        find_world(home, manifest.parent.name) for manifest in sorted(worlds_directory(home).glob("*/world.json"))
    ]
    if as_json:
        print_json(
            [
                {"name": world.name, "tracks": len(world.catalogue), "listeners": len(world.listeners), **world.about}
                for world in worlds
            ]
        )
        return
    table = Table("world", "tracks", "listeners", "made of")
    for world in worlds:
        table.add_row(world.name, f"{len(world.catalogue):,}", f"{len(world.listeners):,}", _made_of(world))
    console.print(table)


def _made_of(world: World) -> str:
    if "fitted" in world.about:
        return f"fitted to {world.about['fitted']['dataset']}"
    return ", ".join(world.about.get("imported", [f"seed {world.about.get('seed')}"]))


def _open(home: Path, world: str | None) -> World:
    return open_world(home, DEFAULT) if world is None else find_world(home, world)


def _read(path: Path | None, seed: int | None) -> WorldConfig:
    config = DEFAULT if path is None else WorldConfig.from_toml(path)
    return config if seed is None else replace(config, seed=seed)


def _show(world: World) -> None:
    catalogue = world.catalogue
    console.print(
        f"World [bold]{world.name}[/bold]: {len(catalogue):,} tracks of {len(catalogue.artists):,} artists, "
        f"{len(world.listeners):,} listeners. Use it with `botify sim run --world {world.name}`."
    )
