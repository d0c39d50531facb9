"""Invariant: what a session is offered does not depend on how far behind the worker is."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botify.schemas.events import Listen, RecommendationRequest
from botify.services.recommender.sessions import REQUESTS, WINDOW, PendingListens, sessions_so_far
from botify.streams.folds.users import UserState
from tests.unit.services.recommender.recommending import CATALOGUE, batch_after, batch_of, listens_of, state_of


def request_of(session: str, position: int) -> RecommendationRequest:
    return RecommendationRequest(f"{session}-{position}", 42, session, position, 100 + position, 0.5, position, 0)


def listened(session: str, position: int) -> Listen:
    return listens_of([(100 + position, 0.5)], session, position)[0]


def completed(pending: PendingListens, session: str, position: int, state: UserState | None = None) -> UserState:
    (made,) = pending.completed([request_of(session, position)], [state])
    assert made is not None
    return made


@given(st.lists(st.integers(0, REQUESTS), min_size=1, max_size=60))
def test_the_session_is_complete_however_far_behind_the_worker_is(behind: list[int]) -> None:
    pending, of_worker = PendingListens(), [UserState()]  # the state after each listen
    for position, lag in enumerate(behind):
        stale = of_worker[max(len(of_worker) - 1 - lag, 0)]
        made = completed(pending, "s", position, copy.copy(stale))
        assert made.session_tracks().tolist() == [100 + earlier for earlier in range(position)]
        of_worker.append(copy.copy(of_worker[-1]))
        of_worker[-1].fold(listened("s", position))


def test_a_state_that_is_ahead_is_left_alone() -> None:
    pending, state = PendingListens(), UserState()
    for position in range(3):
        state.fold(listened("s", position))
        before = state.to_bytes()
        assert completed(pending, "s", position, state).to_bytes() == before


def test_another_session_begins_anew() -> None:
    pending, old = PendingListens(), UserState()
    for position in range(3):
        pending.completed([request_of("old", position)], [None])
        old.fold(listened("old", position))
    pending.completed([request_of("new", 0)], [old])
    made = completed(pending, "new", 1, old)
    assert (made.session_id, made.session_tracks().tolist()) == ("new", [100])


def test_a_request_that_comes_twice_counts_once() -> None:
    pending = PendingListens()
    for _ in range(2):
        pending.completed([request_of("s", 0)], [None])
    assert completed(pending, "s", 1).session_listens == 1


@pytest.mark.parametrize("position", [0, 5])
def test_who_is_new_here_is_answered_by_the_state(position: int) -> None:
    assert PendingListens().completed([request_of("s", position)], [None]) == [None]


@pytest.mark.parametrize("seen", [True, False])
def test_the_session_is_the_same_whoever_was_faster(seen: bool) -> None:
    heard = [(10, 1.0), (11, 0.9), (30, 0.5)]
    state = state_of(heard if seen else heard[:-1])
    so_far = sessions_so_far(batch_of(1, *heard[-1], state, position=2), CATALOGUE)
    assert CATALOGUE.tracks[so_far.heard].tolist() == [10, 11, 30]
    assert so_far.fractions[0, :4].tolist() == pytest.approx([1.0, 0.9, 0.5, 0.0])


def test_of_a_long_session_the_first_and_the_last_listens_are_looked_at() -> None:
    tracks = [10, *([11, 12, 13, 30, 31, 32] * 20)]
    so_far = sessions_so_far(batch_after([(track, at / 1_000) for at, track in enumerate(tracks)]), CATALOGUE)
    assert len(so_far.heard) == len(tracks)
    assert CATALOGUE.tracks[so_far.rows[0]].tolist() == [10, *tracks[-(WINDOW - 1) :]]
    assert so_far.last().tolist() == [WINDOW - 1]


def test_a_session_that_has_just_begun_knows_nothing_of_the_last_one() -> None:
    so_far = sessions_so_far(batch_of(1, 30, 1.0, state_of([(10, 1.0), (11, 1.0)], "earlier")), CATALOGUE)
    assert CATALOGUE.tracks[so_far.heard].tolist() == [30]


def test_what_is_not_in_the_catalogue_is_left_out() -> None:
    so_far = sessions_so_far(batch_after([(999, 1.0), (10, 0.8)]), CATALOGUE)
    assert CATALOGUE.tracks[so_far.heard].tolist() == [10]
    assert CATALOGUE.tracks[so_far.seed_tracks].tolist() == [10]
