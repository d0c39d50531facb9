"""A turn of the world is reported by the shipped watches of the shipped learner within 1,000 sessions."""

import pytest

from botify.bench.alarms import watch_world


@pytest.mark.nightly
def test_a_turn_of_the_world_is_reported_within_a_thousand_sessions() -> None:
    turned = watch_world("shifting", 13, 120, 1)
    assert 0 < turned.alarms[0][1] - turned.before <= 1_000
    assert watch_world("botify", 13, 120, 1).alarms == []
