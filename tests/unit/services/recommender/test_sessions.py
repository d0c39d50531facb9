"""Invariant: what a session is offered does not depend on how far behind the worker is."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botify.schemas.events import Listen, RecommendationRequest
from botify.services.recommender.sessions import REQUESTS, PendingListens
from botify.streams.folds.users import UserState


def request_of(session: str, position: int) -> RecommendationRequest:
    return RecommendationRequest(f"{session}-{position}", 42, session, position, 100 + position, 0.5, position, 0)


def fold(state: UserState, session: str, position: int) -> None:
    state.fold(
        Listen(
            f"{session}-{position}", 42, 100 + position, 0.5, position, session, position, False, None, {}, None, None
        )
    )


@given(st.lists(st.integers(0, REQUESTS), min_size=1, max_size=60))
def test_the_session_is_complete_however_far_behind_the_worker_is(behind: list[int]) -> None:
    pending, of_worker = PendingListens(), [UserState()]  # the state after each listen
    for position, lag in enumerate(behind):
        stale = of_worker[max(len(of_worker) - 1 - lag, 0)]
        (completed,) = pending.completed([request_of("s", position)], [copy.copy(stale)])
        assert completed is not None
        assert completed.session_tracks().tolist() == [100 + earlier for earlier in range(position)]
        of_worker.append(copy.copy(of_worker[-1]))
        fold(of_worker[-1], "s", position)


def test_a_state_that_is_ahead_is_left_alone() -> None:
    pending, state = PendingListens(), UserState()
    for position in range(3):
        fold(state, "s", position)
        before = state.to_bytes()
        (completed,) = pending.completed([request_of("s", position)], [state])
        assert completed is not None
        assert completed.to_bytes() == before


def test_another_session_begins_anew() -> None:
    pending, old = PendingListens(), UserState()
    for position in range(3):
        pending.completed([request_of("old", position)], [None])
        fold(old, "old", position)
    pending.completed([request_of("new", 0)], [old])
    (completed,) = pending.completed([request_of("new", 1)], [old])
    assert completed is not None
    assert (completed.session_id, completed.session_tracks().tolist()) == ("new", [100])


def test_a_request_that_comes_twice_counts_once() -> None:
    pending = PendingListens()
    for _ in range(2):
        pending.completed([request_of("s", 0)], [None])
    (completed,) = pending.completed([request_of("s", 1)], [None])
    assert completed is not None
    assert completed.session_listens == 1


@pytest.mark.parametrize("position", [0, 5])
def test_who_is_new_here_is_answered_by_the_state(position: int) -> None:
    assert PendingListens().completed([request_of("s", position)], [None]) == [None]
