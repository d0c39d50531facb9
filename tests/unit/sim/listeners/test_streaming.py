"""Listeners of the model `streaming`: what a skip depends on, and how sessions end."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from botify.core.keyed_random import mix
from botify.sim.agents import DummyAgent
from botify.sim.listeners.botify import MEAN_LENGTH, PATIENCE, SKIPPED_BELOW, StreamingListeners
from botify.sim.listeners.model import Exposure
from botify.sim.options import RunOptions
from botify.sim.play import play_world
from botify.sim.simulation import FinishedListens
from botify.sim.world.model import World

HOUR_MS = 60 * 60 * 1000


def exposures(world: World, n: int) -> Exposure:
    """Return listens of the first listener's own interest."""
    interest = int(world.listeners.interests[0, 0])
    users = np.zeros(n, dtype=np.int64)
    return Exposure(
        users=users,
        tracks=np.full(n, interest),
        tastes=world.catalogue.embeddings[np.full(n, interest)].astype(np.float64),
        repeated=np.zeros(n, dtype=np.bool_),
        artist_counts=users,
        time_ms=users,
        keys=mix(3, np.arange(n)),
        positions=np.full(n, 4),
    )


def test_what_is_liked_is_skipped_less_and_what_was_heard_more(small_world: World) -> None:
    model, liked = StreamingListeners(small_world, seed=1), exposures(small_world, 100)
    again = replace(liked, repeated=~liked.repeated)
    tired = replace(liked, artist_counts=np.full(100, 9))
    probability = model.skip_probability(liked)
    assert (model.skip_probability(again) > model.skip_probability(tired)).all()
    assert (model.skip_probability(tired) > probability).all()


def test_a_listen_is_a_skip_or_goes_to_the_end(small_world: World) -> None:
    model, liked = StreamingListeners(small_world, seed=1), exposures(small_world, 20_000)
    fractions = model.fractions(liked)
    skipped = fractions < SKIPPED_BELOW
    assert skipped.mean() == pytest.approx(model.skip_probability(liked).mean(), abs=0.01)
    assert (fractions[~skipped] == 1.0).all()
    assert len(np.unique(fractions[skipped])) > 20


def test_the_hour_and_the_place_count_and_one_context_holds_for_a_session(small_world: World) -> None:
    model, liked = StreamingListeners(small_world, seed=1), exposures(small_world, 100)
    at_six = replace(liked, time_ms=np.full(100, 6 * HOUR_MS))
    first, late = (replace(liked, positions=np.full(100, p)) for p in (0, 400))
    probability = model.skip_probability(liked)
    assert (model.skip_probability(at_six) < probability).all()
    assert (model.skip_probability(late) < model.skip_probability(first)).all()
    assert len(np.unique(probability.round(6))) == 6  # the contexts
    assert (model.skip_probability(replace(liked, tracks=liked.tracks)) == probability).all()


def test_sessions_end_for_reasons_of_their_own_and_for_bad_tracks(small_world: World) -> None:
    model = StreamingListeners(small_world, seed=1)
    users = np.zeros(20_000, dtype=np.int64)
    start = model.open(users, mix(3, np.arange(20_000)), users)
    assert start.lengths is not None
    assert start.budgets is not None
    assert start.lengths.min() == 1
    assert start.lengths.mean() == pytest.approx(MEAN_LENGTH, rel=0.05)
    assert set(start.budgets.tolist()) == {PATIENCE * int(small_world.listeners.session_budget[0])}

    ends: list[FinishedListens] = []
    options = RunOptions(sessions=600, seed=2, start_ms=0, model="streaming")
    done = play_world(small_world, DummyAgent(small_world.catalogue, 2), options, listener=ends.append)
    last = [heard.where(heard.ended) for heard in ends]
    lengths = np.concatenate([heard.positions for heard in last]) + 1
    keys = mix(2, *(np.concatenate([getattr(heard, name) for heard in last]) for name in ("users", "ordinals")))
    planned = model.open(np.zeros(len(keys), dtype=np.int64), keys, np.zeros(len(keys), dtype=np.int64)).lengths
    assert planned is not None
    assert done.sessions == 600
    assert (lengths <= planned).all()
    assert 0.3 < (lengths == planned).mean() < 1.0  # the others ran out of patience
