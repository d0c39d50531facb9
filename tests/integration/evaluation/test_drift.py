"""Drift in simulated worlds, in process: a turn is reported within 1,000 sessions, and days without one are calm."""

import numpy as np
import pytest

from botify.bench.yardsticks import SceneClairvoyant
from botify.evaluation.agent import Pipeline
from botify.playing import SMALL
from botify.schemas.training import TrainingColumns
from botify.sim.listeners.changing import SHIFT_PERIOD_MS
from botify.sim.loop.kafka import tracks_of
from botify.sim.options import RunOptions
from botify.sim.play import play_world
from botify.sim.simulation import FinishedListens
from botify.sim.world import World
from botify.sim.world.generate import generate
from botify.streams.learner.drift import ListensDrift

pytestmark = pytest.mark.nightly
SEEDS = range(1, 6)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_turn_of_the_world_is_reported_within_a_thousand_sessions(seed: int) -> None:
    """Half of the catalogue changes on day 10; `botify` has learned from nothing, and goes on learning."""
    world, drift = World("small", *generate(SMALL), {}), ListensDrift()
    sessions = before = first = 0

    def heard(listens: FinishedListens) -> None:
        nonlocal sessions, before, first
        sessions += int(listens.ended.sum())
        if listens.time_ms.max(initial=0) < SHIFT_PERIOD_MS:
            before = sessions
            assert not any(watch.alarms for watch in drift.watches.values())
        elif not first and drift.watches["quality"].alarms:
            first = sessions

    agent = Pipeline({track.track: track for track in tracks_of(world.catalogue)}, "botify", {}, learned=drift.update)
    options = RunOptions(days=11.5, users=200, seed=seed, start_ms=0, model="shifting")
    play_world(world, agent, options, listener=heard)
    assert 0 < first - before <= 1_000


@pytest.mark.parametrize("seed", SEEDS)
def test_there_is_no_alarm_in_two_hundred_days_without_a_turn(seed: int) -> None:
    """Listeners with a daily rhythm, and an agent that does not change."""
    world, drift = World("small", *generate(SMALL), {}), ListensDrift()

    def heard(listens: FinishedListens) -> None:
        if len(listens):
            drift.update(columns_of(listens), np.full(len(listens), np.nan, dtype=np.float32))

    options = RunOptions(days=200, users=100, seed=seed, start_ms=0)
    play_world(world, SceneClairvoyant(world, seed), options, listener=heard)
    assert {name: watch.alarms for name, watch in drift.watches.items() if watch.alarms} == {}


def columns_of(heard: FinishedListens) -> TrainingColumns:
    offsets, fractions = np.arange(len(heard), dtype=np.uint32), heard.fractions.astype(np.float32)
    sessions, tracks = heard.ordinals.astype(np.uint64), heard.tracks.astype(np.int32)
    served, shown = heard.positions > 0, np.zeros(len(heard), dtype=np.bool_)
    return TrainingColumns(offsets, heard.users, tracks, fractions, heard.time_ms, sessions, heard.ended, served, shown)
