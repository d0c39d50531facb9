"""The vectorised user model against one written out loop by loop, listen by listen."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import numpy as np

from botify.core.keyed_random import mix, uniform
from botify.sim.listeners.botify import BotifyListeners
from botify.sim.listeners.model import BUDGET, FIRST_TRACK, INTEREST
from botify.sim.schedule import RelaySchedule
from botify.sim.simulation import Simulation
from botify.sim.world.model import World

SEED = 11
LISTENERS, SESSIONS = 1000, 2000


def draw(key: np.ndarray, what: int) -> float:
    return float(uniform(key, what)[0])


def reference_session(
    world: World, user: int, ordinal: int, recommend: Callable[[int, int, int], int]
) -> list[tuple[int, float, bool]]:
    """Return (track, fraction, ended) of one session."""
    people, catalogue = world.listeners, world.catalogue
    key = mix(SEED, user, ordinal)
    interests = people.interests[user]
    slot = int(draw(key, INTEREST) * len(interests))
    interest = [float(x) for x in catalogue.embeddings[interests[slot]]]
    nth = int(draw(key, FIRST_TRACK) * people.interest_neighbours[user])
    track = int(people.neighbours[user, slot, nth])
    budget = int(people.session_budget[user])
    artists = Counter([int(catalogue.artist_of[track])])
    heard = {track}
    session = [(track, 1.0, False)]
    position = 0
    while budget > 0:
        position += 1
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
    sessions: dict[tuple[int, int], list[tuple[int, float, bool]]] = {}
    while simulation.running:
        heard = simulation.finish_listens(2**62)
        for user, ordinal, track, fraction, ended in zip(
            heard.users.tolist(),
            heard.ordinals.tolist(),
            heard.tracks.tolist(),
            heard.fractions.tolist(),
            heard.ended.tolist(),
            strict=True,
        ):
            sessions.setdefault((user, ordinal), []).append((track, fraction, ended))
        asking = heard.where(~heard.ended)
        answers = [
            recommend(user, ordinal, position + 1)
            for user, ordinal, position in zip(asking.users, asking.ordinals, asking.positions, strict=True)
        ]
        simulation.answer(asking.slots, np.array(answers, dtype=np.int64))

    assert len(sessions) == SESSIONS
    assert {user for user, _ in sessions} == set(range(LISTENERS))
    repeats = 0
    for (user, ordinal), session in sessions.items():
        assert session == reference_session(default_world, user, ordinal, recommend)
        repeats += len(session) - len({track for track, _, _ in session})
    assert repeats > 100
