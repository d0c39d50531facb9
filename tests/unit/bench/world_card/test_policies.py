"""The published policies, each on listens written by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import ArrayLike

from botify.bench.random_log import RandomLog
from botify.bench.world_card.policies import (
    BestAnchor,
    ByGenre,
    ByGroup,
    FromLists,
    SampledAnchor,
    by_track,
    by_user_and_genre,
)
from botify.sim.simulation import FinishedListens


def heard(tracks: ArrayLike, fractions: ArrayLike, position: int, users: ArrayLike | None = None) -> FinishedListens:
    """Return listens at one position, of sessions on the slots 0, 1, …"""
    played = np.array(tracks, dtype=np.int64)
    slots = np.arange(len(played))
    return FinishedListens(
        slots=slots,
        users=slots if users is None else np.array(users),
        ordinals=np.zeros_like(slots),
        positions=np.full_like(slots, position),
        tracks=played,
        fractions=np.array(fractions, dtype=np.float64),
        time_ms=np.zeros_like(slots),
        ended=np.zeros(len(slots), dtype=np.bool_),
    )


def test_a_group_is_that_of_the_last_track() -> None:
    policy = ByGroup(np.array([0, 0, 1, 2]), seed=1)
    asked = heard([0] * 50 + [2], [1.0] * 51, 0)
    answers = policy.recommend(asked)
    assert set(answers[:50].tolist()) == {0, 1}
    assert answers[50] == 2


def test_the_first_of_a_list_is_always_the_first_and_a_track_without_a_list_gets_any() -> None:
    lists = np.array([[3, 2], [-1, -1], [0, 1], [1, -1]])
    always = FromLists(lists, seed=1, tracks=4, count=1)
    assert set(always.recommend(heard([0] * 30, [1.0] * 30, 0)).tolist()) == {3}
    assert set(always.recommend(heard([1] * 200, [1.0] * 200, 0)).tolist()) == {0, 1, 2, 3}
    of_two = FromLists(lists, seed=1, tracks=4, count=2)
    assert set(of_two.recommend(heard([0] * 50, [1.0] * 50, 0)).tolist()) == {2, 3}


def test_a_skip_switches_to_the_genre_that_is_next_best() -> None:
    genre_of = np.array([0, 0, 1, 1])
    lists = np.array([[[1, -1], [3, -1]]])
    policy = ByGenre(lists, np.array([[1, 0]]), genre_of, seed=1)
    assert policy.recommend(heard([0], [1.0], 0)).tolist() == [1]
    assert policy.recommend(heard([1], [0.9], 1)).tolist() == [1]
    assert policy.recommend(heard([1], [0.1], 2)).tolist() == [3]
    assert policy.recommend(heard([3], [0.0], 3)).tolist() == [1]


def test_a_sampled_anchor_leaves_out_what_the_session_has_heard() -> None:
    lists = np.array([[1, 2], [0, 3], [0, 1], [2, 1]])
    policy = SampledAnchor(lists, seed=1)
    assert policy.recommend(heard([0], [1.0], 0)).tolist() == [1]
    # 0 was heard for longer, and its first unheard neighbour is 2; that of 1 is 3, and nothing of it was heard
    assert policy.recommend(heard([1], [0.0], 1)).tolist() == [2]


def test_the_best_anchor_gives_no_artist_twice() -> None:
    artist_of = np.array([0, 0, 1, 2])
    lists = np.array([[1, 2, 3], [0, 3, 2], [3, 0, 1], [0, 1, 2]])
    policy = BestAnchor(lists, artist_of, seed=1)
    assert policy.recommend(heard([0], [1.0], 0)).tolist() == [2]
    assert policy.recommend(heard([2], [0.4], 1)).tolist() == [3]


@pytest.fixture
def log() -> RandomLog:
    """Two listeners who like 0 and 1 together, one who likes 2, and all dislike the rest."""
    users = np.array([0, 0, 0, 1, 1, 1, 2, 2])
    tracks = np.array([0, 1, 3, 0, 1, 4, 2, 3])
    fractions = np.array([1.0, 0.9, 0.0, 1.0, 1.0, 0.1, 1.0, 0.0])
    zeros = np.zeros(8, dtype=np.int64)
    return RandomLog(users, zeros, zeros, tracks, fractions, zeros)


def test_what_a_listener_likes_is_judged_by_their_average(log: RandomLog) -> None:
    liked = log.liked()  # averages of 0.63, 0.7 and 0.5
    assert liked.users.tolist() == [2]
    assert liked.fractions.tolist() == [0.5]


def test_lists_of_a_log_pair_what_is_liked_together(log: RandomLog) -> None:
    liked = log._replace(fractions=np.where(log.fractions > 0.5, 1.0, 0.0))
    found = liked.neighbours()
    near = by_track(found, 5)
    assert near[0, 0] == 1
    assert near[1, 0] == 0
    assert near[2, 0] == -1
    lists, genres = by_user_and_genre(liked, found, 3, np.array([0, 0, 1, 1, 1]))
    assert set(lists[0, 0, :2].tolist()) == {0, 1}
    assert genres[2, 0] == 1
