"""The environment of the stored world that a service's catalogue is of.

The dashboard finds it by the entry point `botify.simulator`, so that no service knows the simulator or its files.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gymnasium

from botify.schemas.events import Track
from botify.sim import WorldError
from botify.sim.envs import ENV_ID
from botify.sim.world.model import World
from botify.sim.world.store import load_world, worlds_directory

MakeEnvironment = Callable[[], Any]


def environments_of(home: Path, catalogue: Mapping[int, Track]) -> MakeEnvironment:
    """Return what makes environments of the stored world that has the tracks of the catalogue.

    Raises `WorldError` if no stored world has them, or it is damaged.
    """
    for about in sorted(worlds_directory(home).glob("*/tracks.json")):
        if _has_tracks(about, catalogue):
            return functools.partial(gymnasium.make, ENV_ID, world=_load(about.parent), disable_env_checker=True)
    raise WorldError(
        f"no world in {worlds_directory(home)} has the {len(catalogue):,} tracks of the catalogue; `botify sim run` "
        "stores the world that it simulates, on the machine where it runs"
    )


def _has_tracks(path: Path, catalogue: Mapping[int, Track]) -> bool:
    """Return whether a file has as many tracks as the catalogue, and the first of it."""
    with path.open(encoding="utf-8") as lines:
        first = json.loads(next(lines, "{}"))
        count = 1 + sum(1 for _ in lines)
    known = catalogue.get(int(first.get("track", -1)))
    of_known = None if known is None else (known.artist, known.title)
    return count == len(catalogue) and of_known == (first.get("artist"), first.get("title"))


@functools.lru_cache(maxsize=1)
def _load(directory: Path) -> World:
    return load_world(directory)
