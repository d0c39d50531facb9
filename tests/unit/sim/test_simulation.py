"""A listener's results depend on the seed, the world and the answers; never on the order in which slots are served."""

from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from botify.core.keyed_random import integers, mix
from botify.sim.agents import DummyAgent
from botify.sim.listeners import MODELS, load_model
from botify.sim.options import RunOptions, schedule_of
from botify.sim.play import play_listens, play_world
from botify.sim.schedule import Shard
from botify.sim.simulation import FinishedListens, Simulation
from botify.sim.world.model import World


def served_in_any_order(
    world: World, model: str, options: RunOptions, order_seed: int
) -> dict[int, list[tuple[Any, ...]]]:
    """Answer random parts of those who ask, and return each listener's listens."""
    rng = np.random.default_rng(order_seed)
    simulation = Simulation(world, load_model(model, world, options.seed), schedule_of(world, options, 0), options.seed)
    asking: list[tuple[int, int]] = []
    listens = defaultdict(list)
    while simulation.running:
        heard = simulation.finish_listens(2**62, int(rng.integers(1, 20)))
        columns = (heard.ordinals, heard.positions, heard.tracks, heard.fractions, heard.time_ms, heard.ended)
        for user, *told in zip(heard.users.tolist(), *(column.tolist() for column in columns), strict=True):
            listens[user].append(tuple(told))
        waiting = heard.where(~heard.ended)
        keys = mix(5, waiting.users, waiting.ordinals, waiting.positions)
        tracks = integers(keys, 0, np.int64(len(world.catalogue)))
        asking += zip(waiting.slots.tolist(), tracks.tolist(), strict=True)
        rng.shuffle(asking)
        served, asking = asking[: len(asking) // 2 + 1], asking[len(asking) // 2 + 1 :]
        if served:
            slots, answers = np.array(served).T
            simulation.answer(slots, answers)
    return dict(listens)


in_both_schedules = pytest.mark.parametrize("schedule", [{"sessions": 150, "in_flight": 20}, {"days": 5.0}])


@pytest.mark.parametrize("model", MODELS)
@in_both_schedules
def test_the_order_of_service_changes_nothing(small_world: World, model: str, schedule: dict[str, Any]) -> None:
    options = RunOptions(seed=3, **schedule)
    once = served_in_any_order(small_world, model, options, 1)
    again = served_in_any_order(small_world, model, options, 2)
    assert once == again
    assert sum(map(len, once.values())) > 500


@in_both_schedules
def test_the_union_over_shards_equals_one_process_listener_by_listener(
    small_world: World, schedule: dict[str, Any]
) -> None:
    whole = served_in_any_order(small_world, "botify", RunOptions(seed=3, **schedule), 1)
    union: dict[int, list[tuple[Any, ...]]] = {}
    for index in range(4):
        options = RunOptions(seed=3, shard=Shard(index, 4), **schedule)
        part = served_in_any_order(small_world, "botify", options, index)
        assert not union.keys() & part.keys()
        union |= part
    assert union == whole


def test_a_session_longer_than_the_first_capacity_keeps_all_its_listens(small_world: World) -> None:
    """A listener who likes everything hears more tracks than the columns had room for at first."""
    liking = {"consume_bias": np.full(60, -100.0), "artist_discount_gamma": np.ones(60)}
    eager = replace(small_world, listeners=replace(small_world.listeners, **liking))

    class EveryTrack(DummyAgent):
        def recommend(self, heard: FinishedListens) -> NDArray[np.int64]:
            return (heard.tracks + 1) % len(small_world.catalogue)

    every_track = EveryTrack(small_world.catalogue, 1)
    fractions = play_listens(eager, every_track, RunOptions(users=1, sessions=1, start_ms=0)).fractions
    assert len(fractions) > 400
    assert (fractions[: len(small_world.catalogue)] == 1.0).all()
    assert (fractions[len(small_world.catalogue) :] == 0.0).all()  # all tracks were heard once


def test_no_session_starts_once_the_wanted_listens_are_made(small_world: World) -> None:
    done = play_world(small_world, DummyAgent(small_world.catalogue, 1), RunOptions(listens=300, in_flight=10))
    assert 300 <= done.listens < 500
    assert done.sessions * 6 <= done.listens  # every session came to its end
