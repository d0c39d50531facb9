"""A turn of the world is reported within 1,000 sessions, and 200 days without one give no alarm."""

import pytest

from botify.core.drift import Watch
from botify.evaluation.agent import Pipeline
from botify.playing import SMALL
from botify.sim.listeners.changing import SHIFT_PERIOD_MS
from botify.sim.loop.kafka import tracks_of
from botify.sim.options import RunOptions
from botify.sim.play import play_world
from botify.sim.simulation import FinishedListens
from botify.sim.world import World
from botify.sim.world.generate import generate


def alarms_of(model: str, days: float, users: int, seed: int) -> list[tuple[str, int]]:
    """Let `botify` serve and learn; return each alarm with the sessions since half of the catalogue changed."""
    world, fallbacks, alarms = World("small", *generate(SMALL), {}), Watch(side=-1), list[tuple[str, int]]()
    since, now_ms = 0, 0

    def heard(listens: FinishedListens) -> None:
        nonlocal since, now_ms
        now_ms = int(listens.time_ms.max(initial=now_ms))
        since += int(listens.ended.sum()) if now_ms >= SHIFT_PERIOD_MS else 0
        given = [name for name, _ in alarms]
        alarms.extend((name, since) for name, watch in watches.items() if watch.alarms > given.count(name))

    agent = Pipeline(
        {track.track: track for track in tracks_of(world.catalogue)}, "botify", {},
        watch=lambda batch, by: fallbacks.add([one[1] for one in by.asked(["botify"] * len(batch))], now_ms),
    )  # fmt: skip
    watches = {**agent.drift.watches, "fallbacks": fallbacks}
    options = RunOptions(days=days, users=users, seed=seed, start_ms=0, model=model)
    play_world(world, agent, options, listener=heard)
    return alarms


@pytest.mark.nightly
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_turn_of_the_world_is_reported_within_a_thousand_sessions(seed: int) -> None:
    assert 0 < alarms_of("shifting", 15, 200, seed)[0][1] <= 1_000


@pytest.mark.nightly
def test_there_is_no_false_alarm_in_two_hundred_days_without_a_turn() -> None:
    assert alarms_of("botify", 200, 150, 1) == []
