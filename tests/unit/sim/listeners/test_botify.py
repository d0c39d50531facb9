"""The vectorised user model against one written out loop by loop, listen by listen."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from botify.core.keyed_random import mix, uniform
from botify.sim.agents import DummyAgent
from botify.sim.listeners.botify import MEAN_LENGTH, PATIENCE, SKIPPED_BELOW, BotifyListeners, StreamingListeners
from botify.sim.listeners.model import BUDGET, FIRST_TRACK, INTEREST
from botify.sim.options import RunOptions
from botify.sim.play import play_world
from botify.sim.schedule import RelaySchedule
from botify.sim.simulation import FinishedListens, Simulation
from botify.sim.world.model import World
from tests.unit.sim.conftest import exposure

SEED, LISTENERS, SESSIONS = 11, 300, 600
Heard = tuple[int, float, bool]


def draw(key: np.ndarray, what: int) -> float:
    return float(uniform(key, what)[0])


def reference_session(world: World, user: int, ordinal: int, recommend: Callable[[int, int, int], int]) -> list[Heard]:
    people, catalogue = world.listeners, world.catalogue
    key = mix(SEED, user, ordinal)
    interests = people.interests[user]
    slot = int(draw(key, INTEREST) * len(interests))
    interest = [float(x) for x in catalogue.embeddings[interests[slot]]]
    nth = int(draw(key, FIRST_TRACK) * people.interest_neighbours[user])
    track = int(people.neighbours[user, slot, nth])
    budget = int(people.session_budget[user])
    artists = Counter([int(catalogue.artist_of[track])])
    heard, session = {track}, [(track, 1.0, False)]
    while budget > 0:
        position = len(session)
        track = recommend(user, ordinal, position)
        artist = int(catalogue.artist_of[track])
        if track in heard:
            fraction = 0.0
        else:
            score = sum(a * float(b) for a, b in zip(interest, catalogue.embeddings[track], strict=True))
            raw = 1 / (1 + math.exp(-(score - people.consume_bias[user]) * people.consume_sharpness[user]))
            fraction = round(raw * people.artist_discount_gamma[user] ** artists[artist], 2)
        if draw(mix(key, position), BUDGET) >= fraction:
            budget -= 1
        artists[artist] += 1
        heard.add(track)
        session.append((track, fraction, budget <= 0))
    return session


def test_agrees_with_a_plain_python_model_listen_by_listen(default_world: World) -> None:
    catalogue = default_world.catalogue
    by_artist = [np.flatnonzero(catalogue.artist_of == a) for a in catalogue.artist_of[:50]]

    def recommend(user: int, ordinal: int, position: int) -> int:
        # Tracks of few artists, and some of them twice, so that the discount and the repetition take part.
        key = mix(99, user, ordinal, position)
        tracks = by_artist[(user + ordinal) % 50] if position % 2 else np.arange(len(catalogue))
        return int(tracks[int(draw(key, 0) * len(tracks))])

    schedule = RelaySchedule(np.arange(LISTENERS), slots=300, sessions=SESSIONS)
    simulation = Simulation(default_world, BotifyListeners(default_world, SEED), schedule, SEED)
    sessions: dict[tuple[int, int], list[Heard]] = {}
    while simulation.running:
        heard = simulation.finish_listens(2**62)
        columns = (heard.users, heard.ordinals, heard.tracks, heard.fractions, heard.ended)
        for user, ordinal, track, fraction, ended in zip(*(one.tolist() for one in columns), strict=True):
            sessions.setdefault((user, ordinal), []).append((track, fraction, ended))
        asking = heard.where(~heard.ended)
        answers = list(map(recommend, asking.users, asking.ordinals, asking.positions + 1))
        simulation.answer(asking.slots, np.array(answers, dtype=np.int64))

    assert len(sessions) == SESSIONS
    assert {user for user, _ in sessions} == set(range(LISTENERS))
    repeats = 0
    for (user, ordinal), session in sessions.items():
        assert session == reference_session(default_world, user, ordinal, recommend)
        repeats += len(session) - len({track for track, _, _ in session})
    assert repeats > 100


def test_a_listen_is_a_skip_or_goes_to_the_end(small_world: World) -> None:
    model, n = StreamingListeners(small_world, seed=1), 20_000
    liked = exposure(small_world, np.full(n, small_world.listeners.interests[0, 0]), 0)
    liked = replace(liked, keys=mix(3, np.arange(n)), positions=np.full(n, 4))
    fractions = model.fractions(liked)
    skipped = fractions < SKIPPED_BELOW
    assert skipped.mean() == pytest.approx(model.skip_probability(liked).mean(), abs=0.01)
    assert (fractions[~skipped] == 1.0).all()
    assert len(np.unique(fractions[skipped])) > 20


def test_sessions_end_for_reasons_of_their_own_and_for_bad_tracks(small_world: World) -> None:
    model, users = StreamingListeners(small_world, seed=1), np.zeros(20_000, dtype=np.int64)
    start = model.open(users, mix(3, np.arange(20_000)), users)
    assert start.lengths.min() == 1
    assert start.lengths.mean() == pytest.approx(MEAN_LENGTH, rel=0.05)
    assert set(start.budgets.tolist()) == {PATIENCE * int(small_world.listeners.session_budget[0])}

    ends: list[FinishedListens] = []
    options = RunOptions(sessions=600, seed=2, start_ms=0, model="streaming")
    done = play_world(small_world, DummyAgent(small_world.catalogue, 2), options, listener=ends.append)
    last = [heard.where(heard.ended) for heard in ends]
    lengths = np.concatenate([heard.positions for heard in last]) + 1
    keys = mix(2, *(np.concatenate([getattr(heard, name) for heard in last]) for name in ("users", "ordinals")))
    planned = model.open(users[: len(keys)], keys, users[: len(keys)]).lengths
    assert done.sessions == 600
    assert (lengths <= planned).all()
    assert 0.3 < (lengths == planned).mean() < 1.0  # the others ran out of patience
