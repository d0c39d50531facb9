"""Invariant: no rule of the simulator is built into what learns and serves."""

import re
import tokenize
from dataclasses import replace
from pathlib import Path

import pytest

from botify.bench.simulated import measure
from botify.sim.loop.kafka import tracks_of
from botify.sim.options import RunOptions
from botify.sim.world import WorldConfig
from botify.sim.world.generate import generate
from botify.sim.world.model import World

ROOT = Path(__file__).parents[4]
SIZES = WorldConfig(tracks=800, artists=180, genres=4, scenes=12, users=160, clusters=2)
SMALL = replace(SIZES, genre_norm=0.0, scene_norm=2.2, artist_norm=0.75)
OPTIONS = RunOptions(in_flight=40, seed=5, start_ms=0)
RULES = re.compile(r"discount|gamma|γ|genre_?pool", re.IGNORECASE)
"""What the simulator's rules are called; `standard_gamma` is numpy's distribution."""


@pytest.mark.parametrize(
    ("gamma", "genres", "model", "sessions"),
    [(0.7, True, "botify", 400), (1.0, True, "botify", 400), (0.9, False, "botify", 800), (0.9, True, "probit", 400)],
    ids=["artists tire soon", "artists never tire", "no genres", "probit"],
)
def test_what_is_learned_is_ahead_in_a_world_of_other_rules(
    gamma: float, genres: bool, model: str, sessions: int
) -> None:
    world = World("other", *generate(replace(SMALL, artist_discount_gamma=gamma)), {})
    tracks = {track.track: track if genres else track._replace(genre=None) for track in tracks_of(world.catalogue)}
    options = replace(OPTIONS, model=model, sessions=sessions)
    learned, without = (
        measure(world, tracks, name, options, {}).after(sessions * 3 // 8).times.mean()
        for name in ("rerank", "sticky_norepeat")
    )
    assert learned > 1.2 * without


def rules_named(folder: Path) -> list[str]:
    """Where names in the code sound like a rule of the simulator."""
    found = []
    for path in sorted(folder.rglob("*.py")):
        with path.open("rb") as source:
            names = [token for token in tokenize.tokenize(source.readline) if token.type == tokenize.NAME]
        rules = [name for name in names if RULES.search(name.string) and name.string != "standard_gamma"]
        found += [f"{path}:{name.start[0]}: {name.string}" for name in rules]
    return found


def test_no_name_brings_a_rule_of_the_simulator_back(tmp_path: Path) -> None:
    assert rules_named(ROOT / "services") + rules_named(ROOT / "streams") == []
    (tmp_path / "code.py").write_text("kept = gamma**count")
    assert rules_named(tmp_path), "such a name would be found"
