"""The world is found by the tracks of a service's catalogue."""

from __future__ import annotations

from pathlib import Path

import pytest

from botify.schemas.events import Track
from botify.sim import WorldError
from botify.sim.envs.session import environments_of
from botify.sim.world.config import WorldConfig
from botify.sim.world.generate import generate
from botify.sim.world.model import World
from botify.sim.world.store import save_world

WORLD = World("w", *generate(WorldConfig(tracks=100, artists=20, genres=5, users=9, dimensions=8)), {})


def test_the_world_is_the_one_with_the_tracks_of_the_catalogue(tmp_path: Path) -> None:
    catalogue = {
        track: Track(track, WORLD.catalogue.artists[artist], None, None, title)
        for track, (artist, title) in enumerate(
            zip(WORLD.catalogue.artist_of.tolist(), WORLD.catalogue.titles, strict=True)
        )
    }
    with pytest.raises(WorldError, match="botify sim"):
        environments_of(tmp_path, catalogue)
    save_world(tmp_path, WORLD)
    seen, _ = environments_of(tmp_path, catalogue)().reset(seed=7)
    assert seen["user"] < 9
    del catalogue[99]
    with pytest.raises(WorldError, match="99 tracks"):
        environments_of(tmp_path, catalogue)
