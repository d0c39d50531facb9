"""Requests and states as recommenders get them, and how often they draw what."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats

from botify.schemas.events import Listen, RecommendationRequest, Track
from botify.services.recommender.catalogue import Catalogue
from botify.services.recommender.lists import NO_LISTS
from botify.services.recommender.protocol import Batch, Recommender
from botify.services.recommender.registry import RecommenderFactory, RecommenderInputs
from botify.streams.folds.likes import Likes
from botify.streams.folds.users import UserState

# artist a has 10, 11, 12 and 13, artist b only 20, artist c 30 to 35
CATALOGUE = Catalogue(
    [
        Track(t, artist, None, None, "x")
        for artist, tracks in (("c", range(30, 36)), ("a", range(10, 14)), ("b", [20]))
        for t in tracks
    ]
)
NO_INPUTS = RecommenderInputs(
    top=lambda: np.zeros(0, dtype=np.int64),
    neighbours=lambda: NO_LISTS,
    user_lists=lambda: NO_LISTS,
    factors=lambda: None,
    next_track=lambda: None,
)

Heard = Sequence[tuple[int, float]]


def listens_of(heard: Heard, session_id: str = "s", first: int = 0) -> list[Listen]:
    """(track, fraction) of one session, oldest first."""
    return [
        Listen(f"{session_id}-{at}", 42, track, fraction, at, session_id, at, False, None, {}, None, None)
        for at, (track, fraction) in enumerate(heard, first)
    ]


def state_of(heard: Heard, session_id: str = "s", first: int = 0) -> UserState:
    """What a worker has folded."""
    state = UserState()
    for listen in listens_of(heard, session_id, first):
        state.fold(listen)
    return state


def likes_of(*sessions: Heard) -> Likes:
    likes = Likes()
    for number, heard in enumerate(sessions):
        for listen in listens_of(heard, f"earlier {number}"):
            likes.fold(listen)
    return likes


def request_of(track: int, fraction: float = 1.0, position: int = 0, **other: Any) -> RecommendationRequest:
    """A request of listener 42 in session `s`; `other` are further fields."""
    return RecommendationRequest("r", 42, "s", position, track, fraction, 0, 0)._replace(**other)


def batch_after(heard: Heard, likes: Likes | None = None) -> Batch:
    """The request after the last listen, which the state has."""
    return Batch.of([request_of(*heard[-1], len(heard) - 1)], [state_of(heard)], [likes])


def batch_of(n: int, track: int, fraction: float, state: UserState | None = None, position: int = 0) -> Batch:
    return Batch.of([request_of(track, fraction, position, request_id=f"r{i}") for i in range(n)], [state] * n)


def batch_of_listeners(n: int) -> Batch:
    """The first requests of n listeners without a state, after tracks 0 to 49."""
    return Batch.of([RecommendationRequest(f"r{i}", i, f"s{i}", 0, i % 50, 1.0, 0, 0) for i in range(n)], [None] * n)


def recommenders_of(
    catalogue: Catalogue,
    inputs: RecommenderInputs = NO_INPUTS,
    guard: Callable[[Recommender], Recommender] = lambda recommender: recommender,
) -> dict[str, Recommender]:
    return {one.name: one for one in RecommenderFactory(guard).make(catalogue, inputs)}


def check_frequencies(recommender: Recommender, batch: Batch, expected: dict[int, float]) -> None:
    """Hold what is drawn, what is logged, and what was worked out by hand against each other."""
    answers = recommender.recommend(batch)
    logged = dict(zip(answers.tracks.tolist(), answers.propensities.tolist(), strict=True))
    assert logged == pytest.approx(expected)
    counts = Counter(answers.tracks.tolist())
    observed = [counts[track] for track in expected]
    assert sum(observed) == len(batch)
    if len(expected) > 1:
        assert stats.chisquare(observed, [p * len(batch) for p in expected.values()]).pvalue > 1e-3
    assert answers.candidates is not None
    assert set(answers.candidates.tolist()) == {len(expected)}


def evenly(*tracks: int) -> dict[int, float]:
    return dict.fromkeys(tracks, 1 / len(tracks))
