"""A turn of the world is reported by the shipped watches of the shipped learner within 1,000 sessions."""

import pytest

from botify.bench.alarms import SMALL, watch_world
from botify.sim.world import World
from botify.sim.world.generate import generate


@pytest.mark.nightly
def test_a_turn_of_the_world_is_reported_within_a_thousand_sessions() -> None:
    world = World("small", *generate(SMALL), {})
    turned = watch_world("shifting", 13, 120, 1, world)
    assert not [one for one in turned.alarms if one.session <= turned.before]
    assert 0 < turned.alarms[0].session - turned.before <= 1_000
    assert watch_world("botify", 13, 120, 1, world).alarms == []
