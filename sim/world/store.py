"""Worlds on disk: a directory each, named by the hash of what made it, in Botify's own formats."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from sim.errors import WorldError
from sim.world.config import WorldConfig
from sim.world.generate import generate
from sim.world.model import Listeners, World, WorldCatalogue
from sim.world.reading import read_array, read_tracks, read_users

GENERATOR_VERSION = 1
"""Goes up when the same settings come to give another world, so that no cached one is taken for it."""


def worlds_directory(home: Path) -> Path:
    """Return where the worlds are, in the data directory."""
    return home / "worlds"


def open_world(home: Path, config: WorldConfig) -> World:
    """Load the world of these settings; the first time, generate it.

    Raises
    ------
    WorldError
        The stored world is damaged.
    """
    about = {"generator": GENERATOR_VERSION, **config.to_mapping()}
    name = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:12]
    directory = worlds_directory(home) / name
    if not directory.exists():
        save_world(home, World(name, *generate(config), about))
    return load_world(directory)


def find_world(home: Path, name: str) -> World:
    """Load a world by the first digits of its name, or by its directory.

    Raises
    ------
    WorldError
        There is none, or more than one, or it is damaged.
    """
    if Path(name).is_dir():
        return load_world(Path(name))
    stored = sorted(path.parent for path in worlds_directory(home).glob("*/world.json"))
    found = [path for path in stored if name and path.name.startswith(name)]
    if len(found) != 1:
        names = ", ".join(path.name for path in stored) or "none"
        how_many = "more than one world is" if found else "no world is"
        raise WorldError(f"world {name!r}: {how_many} called that; in {worlds_directory(home)}: {names}")
    return load_world(found[0])


def save_world(home: Path, world: World) -> Path:
    """Write a world; it appears whole or not at all.

    Returns
    -------
    Path
        The world's directory. One that is there already stays as it is: its name is the hash of what made it.
    """
    target = worlds_directory(home) / world.name
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=target.parent))
    try:
        _write(unfinished, world)
        if not target.exists():
            unfinished.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return target


def load_world(directory: Path) -> World:
    """Read a world and check it.

    Raises
    ------
    WorldError
        A file is missing or damaged; the message names the file, the row and why.
    """
    try:
        manifest = json.loads((directory / "world.json").read_text(encoding="utf-8"))
        name, about = str(manifest["name"]), dict(manifest["about"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WorldError(f"{directory / 'world.json'}: not a world ({error!r}); remove {directory}") from error
    tracks = read_tracks(directory / "tracks.json")
    count = len(tracks.titles)
    users = read_users(directory / "users.json", count)
    most = int(users.interest_neighbours.max())
    neighbours = read_array(directory / "neighbours.npy", (*users.interests.shape, most)).astype(np.int32)
    if neighbours.min() < 0 or neighbours.max() >= count:
        raise WorldError(f"{directory / 'neighbours.npy'}: a value is not a track; remove {directory}")
    catalogue = WorldCatalogue(
        embeddings=read_array(directory / "embeddings.npy", (count, None)).astype(np.float32),
        artist_of=tracks.artist_of,
        genre_of=tracks.genre_of,
        duration_ms=read_array(directory / "durations.npy", (count,)).astype(np.int32),
        artists=tracks.artists,
        genres=tracks.genres,
        albums=tracks.albums,
        titles=tracks.titles,
    )
    listeners = Listeners(
        interests=users.interests,
        neighbours=neighbours,
        interest_neighbours=users.interest_neighbours,
        consume_bias=users.consume_bias,
        consume_sharpness=users.consume_sharpness,
        artist_discount_gamma=users.artist_discount_gamma,
        session_budget=users.session_budget,
    )
    return World(name, catalogue, listeners, about)


def _write(directory: Path, world: World) -> None:
    catalogue, listeners = world.catalogue, world.listeners
    np.save(directory / "embeddings.npy", catalogue.embeddings)
    np.save(directory / "durations.npy", catalogue.duration_ms)
    np.save(directory / "neighbours.npy", listeners.neighbours)
    _write_rows(directory / "tracks.json", [_track_row(catalogue, track) for track in range(len(catalogue))])
    _write_rows(directory / "users.json", [_user_row(listeners, user) for user in range(len(listeners))])
    manifest = {"name": world.name, "about": world.about}
    (directory / "world.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def _track_row(catalogue: WorldCatalogue, track: int) -> dict[str, Any]:
    genre = int(catalogue.genre_of[track])
    return {
        "track": track,
        "artist": catalogue.artists[catalogue.artist_of[track]],
        "album": catalogue.albums[track],
        "genre": None if genre < 0 else catalogue.genres[genre],
        "title": catalogue.titles[track],
    }


def _user_row(listeners: Listeners, user: int) -> dict[str, Any]:
    return {
        "user": user,
        "interests": listeners.interests[user].tolist(),
        "interest_neighbours": int(listeners.interest_neighbours[user]),
        "consume_bias": float(listeners.consume_bias[user]),
        "consume_sharpness": float(listeners.consume_sharpness[user]),
        "session_budget": int(listeners.session_budget[user]),
        "artist_discount_gamma": float(listeners.artist_discount_gamma[user]),
    }
