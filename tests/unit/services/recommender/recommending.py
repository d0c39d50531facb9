"""Requests and states as recommenders get them."""

from collections.abc import Sequence

import numpy as np

from botify.schemas.events import Listen, RecommendationRequest
from botify.services.recommender.lists import NO_LISTS
from botify.services.recommender.protocol import Batch
from botify.services.recommender.registry import RecommenderInputs
from botify.streams.folds.users import UserState

NO_INPUTS = RecommenderInputs(
    top=lambda: np.zeros(0, dtype=np.int64),
    neighbours=lambda: NO_LISTS,
    user_lists=lambda: NO_LISTS,
    factors=lambda: None,
    graph=lambda: None,
    next_track=lambda: None,
    policy_results=dict,
)

Heard = Sequence[tuple[int, float]]


def state_of(heard: Heard, session_id: str = "s", first: int = 0) -> UserState:
    """What a worker has folded: (track, fraction) of one session, oldest first."""
    state = UserState()
    for at, (track, fraction) in enumerate(heard, first):
        listen = Listen(f"{session_id}-{at}", 42, track, fraction, at, session_id, at, False, None, {}, None, None)
        state.fold(listen)
    return state


def batch_of(n: int, track: int, fraction: float, state: UserState | None = None, position: int = 0) -> Batch:
    requests = [RecommendationRequest(f"r{i}", 42, "s", position, track, fraction, 0, 0) for i in range(n)]
    return Batch.of(requests, [state] * n)


def batch_of_listeners(n: int) -> Batch:
    """The first requests of n listeners without a state, after tracks 0 to 49."""
    return Batch.of([RecommendationRequest(f"r{i}", i, f"s{i}", 0, i % 50, 1.0, 0, 0) for i in range(n)], [None] * n)
