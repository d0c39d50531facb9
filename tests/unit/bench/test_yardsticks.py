"""Invariant: a yardstick knows exactly what it is said to know."""

import math
from dataclasses import replace

import numpy as np
import pytest

from botify.bench.yardsticks import ORACLE, SCENE, Gap, SceneClairvoyant, times_of_yardsticks
from botify.core.keyed_random import integers, mix
from botify.core.welch import Mean
from botify.sim.listeners.model import INTEREST
from botify.sim.options import RunOptions
from botify.sim.play import play_world
from botify.sim.simulation import FinishedListens
from botify.sim.world.config import WorldConfig
from botify.sim.world.generate import generate
from botify.sim.world.model import World

SIZES = WorldConfig(tracks=600, artists=120, genres=6, users=40, dimensions=12, clusters=4)
SCENES = World("scenes", *generate(replace(SIZES, scenes=30, genre_norm=0.0, scene_norm=2.2)), {})
EASY = World("easy", *generate(SIZES), {})
SEED = 5


@pytest.mark.parametrize("world", [SCENES, EASY], ids=lambda world: world.name)
def test_the_clairvoyant_plays_the_scene_of_the_interest_and_nothing_twice(world: World) -> None:
    parts: list[FinishedListens] = []
    options = RunOptions(sessions=80, in_flight=20, seed=SEED, start_ms=0)
    play_world(world, SceneClairvoyant(world, SEED), options, listener=parts.append)
    users, ordinals, positions, tracks = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("users", "ordinals", "positions", "tracks")
    )
    group_of = world.catalogue.scene_of if world is SCENES else world.catalogue.genre_of
    slots = integers(mix(SEED, users, ordinals), INTEREST, world.listeners.interests.shape[1])
    wanted = group_of[world.listeners.interests[users, slots]]
    played = positions > 0
    assert (group_of[tracks] == wanted)[played].all()
    sizes = np.bincount(group_of)
    for session in np.unique(np.stack([users, ordinals]), axis=1).T:
        of_session = (users == session[0]) & (ordinals == session[1])
        if of_session.sum() <= sizes[wanted[of_session][0]]:
            assert len(np.unique(tracks[of_session])) == of_session.sum()


def test_who_knows_more_has_more_time() -> None:
    times = times_of_yardsticks(SCENES, SEED, sessions=200)
    assert times[ORACLE] > times[SCENE] > 1


def test_the_gap_is_a_share_of_the_way_in_logs() -> None:
    assert Gap.of(Mean(100.0, 0.0, 300.0), control=2.0, oracle=8.0) == (50.0, Mean(50.0, 0.0, 100.0))


def test_the_gap_is_undefined_where_the_oracle_is_not_ahead() -> None:
    gap = Gap.of(Mean(10.0, 5.0, 15.0), control=2.0, oracle=2.0)
    assert math.isnan(gap.closed.estimate)
    assert gap.figures() == {
        "regret_percent": pytest.approx(-10), "closed_percent": None, "closed_lower": None, "closed_upper": None,
    }  # fmt: skip
    below = Gap.of(Mean(-50.0, -100.0, 0.0), control=2.0, oracle=4.0)
    assert below.figures() == {
        "regret_percent": 75, "closed_percent": pytest.approx(-100), "closed_lower": None, "closed_upper": 0,
    }  # fmt: skip
