"""Worlds on disk: one directory per world, named by the hash of its sources, in Botify's own formats."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from botify.sim import WorldError
from botify.sim.world.config import DEFAULT, NAMED, WorldConfig
from botify.sim.world.generate import generate
from botify.sim.world.model import Listeners, World, WorldCatalogue
from botify.sim.world.reading import read_array, read_catalogue, read_listeners

TASTES = "tastes.npy"  # the file of the tastes that are no track's vector
GENERATOR_VERSION = 1  # increases when the same settings generate another world


def worlds_directory(home: Path) -> Path:
    """Return the directory of the worlds in the data directory."""
    return home / "worlds"


def name_of(about: Mapping[str, Any]) -> str:
    """Return the name of a world: a hash of what it is made of."""
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:12]


def open_world(home: Path, config: WorldConfig) -> World:
    """Load the world of these settings, or generate and store it; raises `WorldError` if the stored one is damaged."""
    about = {"generator": GENERATOR_VERSION, **asdict(config)}
    name = name_of(about)
    directory = worlds_directory(home) / name
    if not directory.exists():
        save_world(home, World(name, *generate(config), about))
    return load_world(directory)


def find_world(home: Path, name: str | None) -> World:
    """Load a world by its name in `NAMED`, the first digits of its hash, the dataset it is fitted to, or its directory.

    None is the default world. Raises `WorldError` if no world or several have such a name, or the world is damaged.
    """
    if name is None or name in NAMED:
        return open_world(home, DEFAULT if name is None else NAMED[name])
    if Path(name).is_dir():
        return load_world(Path(name))
    stored = sorted(path.parent for path in worlds_directory(home).glob("*/world.json"))
    found = [path for path in stored if name and path.name.startswith(name)]
    if not found:  # the newest one that was fitted to a dataset of this name
        fitted = [path for path in stored if _dataset_of(path) == name]
        found = sorted(fitted, key=lambda path: path.stat().st_mtime)[-1:]
    if len(found) != 1:
        names = ", ".join(path.name for path in stored) or "none yet; make one with `botify world make`"
        how_many = "more than one world has" if found else "no world has"
        raise WorldError(
            f"world {name!r}: {how_many} such a name; there are {', '.join(NAMED)}, "
            f"and worlds in {worlds_directory(home)}: {names}"
        )
    return load_world(found[0])


def _dataset_of(world: Path) -> str | None:
    try:
        return str(json.loads((world / "world.json").read_text(encoding="utf-8"))["about"]["fitted"]["dataset"])
    except (OSError, ValueError, KeyError, TypeError):  # damaged, or not fitted
        return None


def save_world(home: Path, world: World) -> Path:
    """Write a world, atomically, and return its directory; an existing one, which has its hash as its name, stays."""
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
    """Read a world and check it; raises `WorldError`, which names the file, the row and the reason."""
    try:
        manifest = json.loads((directory / "world.json").read_text(encoding="utf-8"))
        name, about = str(manifest["name"]), dict(manifest["about"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WorldError(f"{directory / 'world.json'}: not a world ({error!r}); remove {directory}") from error

    catalogue = read_catalogue(directory / "tracks.json")
    tracks = len(catalogue)
    vectors = read_array(directory / "embeddings.npy", (tracks, None)).astype(np.float32)
    lengths_ms = read_array(directory / "durations.npy", (tracks,)).astype(np.int32)
    catalogue = replace(catalogue, embeddings=vectors, duration_ms=lengths_ms)
    listeners = read_listeners(directory / "users.json", tracks)
    path, count = directory / "neighbours.npy", int(listeners.interest_neighbours.max())
    neighbours = read_array(path, (*listeners.interests.shape, count)).astype(np.int32)
    if neighbours.min() < 0 or neighbours.max() >= tracks:
        raise WorldError(f"{path}: a value is not a track from 0 to {tracks - 1}; remove {directory}")
    listeners = replace(listeners, neighbours=neighbours)
    if (directory / TASTES).exists():
        shape = (*listeners.interests.shape, catalogue.dimensions)
        listeners = replace(listeners, tastes=read_array(directory / TASTES, shape).astype(np.float32))
    return World(name, catalogue, listeners, about)


def _write(directory: Path, world: World) -> None:
    catalogue, listeners = world.catalogue, world.listeners
    np.save(directory / "embeddings.npy", catalogue.embeddings)
    np.save(directory / "durations.npy", catalogue.duration_ms)
    np.save(directory / "neighbours.npy", listeners.neighbours)
    if listeners.tastes is not None:
        np.save(directory / TASTES, listeners.tastes)
    _write_rows(directory / "tracks.json", (_track_row(catalogue, track) for track in range(len(catalogue))))
    _write_rows(directory / "users.json", (_user_row(listeners, user) for user in range(len(listeners))))
    manifest = {"name": world.name, "about": world.about}
    (directory / "world.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _track_row(catalogue: WorldCatalogue, track: int) -> dict[str, Any]:
    genre, scene = int(catalogue.genre_of[track]), int(catalogue.scene_of[track])
    details = catalogue.details[track]._asdict() if catalogue.details else {}
    return {
        "track": track,
        "artist": catalogue.artists[catalogue.artist_of[track]],
        "album": catalogue.albums[track],
        "genre": None if genre < 0 else catalogue.genres[genre],
        "title": catalogue.titles[track],
        **({} if scene < 0 else {"scene": scene}),
        **details,
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
