"""Invariant: the job's lists are those of the plain formulas, whatever the order and however often a listen comes."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from botify.services.errors import RecommenderError
from botify.services.lists import build
from botify.services.lists.build import (
    SHARE_STEPS,
    SIMILARITY_STEPS,
    ListenColumns,
    Neighbours,
    build_models,
    find_neighbours,
    make_user_lists,
)
from botify.services.recommender.lists import NO_TRACK, Lists

Row = tuple[int, int, int, float]
"""(session, user, track, fraction)."""


def heard_of(rows: list[Row]) -> ListenColumns:
    ids = [f"e{at}" for at in range(len(rows))]
    sessions, users, tracks, fractions = zip(*rows, strict=True)
    return ListenColumns.of(ids, [str(session) for session in sessions], users, tracks, fractions, range(len(rows)))


def plain_similarities(rows: list[Row], shrinkage: float) -> dict[int, dict[int, float]]:
    """The formula of the module's docstring, pair by pair."""
    weights: dict[int, dict[int, int]] = defaultdict(dict)
    for session, _, track, fraction in rows:
        if fraction > 0:
            share = math.floor(fraction * SHARE_STEPS + 0.5)
            weights[track][session] = max(share, weights[track].get(session, 0))
    norm = {track: math.sqrt(sum(w * w for w in of.values())) for track, of in weights.items()}
    found: dict[int, dict[int, float]] = defaultdict(dict)
    for i, of_i in weights.items():
        for j, of_j in weights.items():
            both = of_i.keys() & of_j.keys()
            if i != j and both:
                cosine = sum(of_i[s] * of_j[s] for s in both) / (norm[i] * norm[j])
                found[i][j] = _steps(cosine * (len(both) / (len(both) + shrinkage)))
    return found


def _steps(similarity: float) -> float:
    return math.floor(similarity * SIMILARITY_STEPS + 0.5) / SIMILARITY_STEPS


rows = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 2), st.integers(0, 6), st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0])),
    min_size=1,
    max_size=40,
)


@settings(deadline=None)
@given(rows)
def test_similarities_are_those_of_the_formula(rows: list[Row]) -> None:
    heard = heard_of(rows)
    found = find_neighbours(heard.sessions, heard.tracks, heard.fractions, count=10, shrinkage=1.5)
    expected = plain_similarities(rows, 1.5)
    assert found.tracks.tolist() == sorted(expected)
    for track, listed, similarities in zip(found.tracks.tolist(), found.lists, found.similarities, strict=True):
        size = len(expected[track])
        got = dict(zip(listed[:size].tolist(), similarities[:size].tolist(), strict=True))
        assert got == expected[track]
        assert (np.diff(similarities) <= 0).all()
        assert (listed[size:] == NO_TRACK).all()


def test_blocks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    columns = rng.integers(0, 40, 500).astype(np.uint64), rng.integers(0, 60, 500), rng.random(500)
    whole = find_neighbours(*columns, count=5)
    monkeypatch.setattr(build, "_BLOCK", 7)
    for one, other in zip(whole, find_neighbours(*columns, count=5), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_very_long_session_costs_no_more_than_a_long_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "MAX_SESSION_TRACKS", 3)
    found = find_neighbours(np.zeros(9, dtype=np.uint64), np.arange(9), np.ones(9), count=9)
    assert found.tracks.tolist() == [0, 1, 2]


def test_a_listener_gets_what_is_similar_to_what_they_liked_and_then_what_is_popular() -> None:
    heard = heard_of(
        [(0, 1, 10, 1.0), (0, 1, 11, 0.4), (1, 1, 12, 0.5), (2, 2, 13, 1.0), (2, 2, 14, 0.9), (3, 3, 11, 0.1)]
    )
    neighbours = Neighbours(
        np.array([10, 11, 12]),
        np.array([[14, 13, 12], [15, -1, -1], [13, 15, -1]], dtype=np.int32),
        np.array([[0.5, 0.4, 0.3], [0.9, 0.0, 0.0], [0.4, 0.1, 0.0]]),
    )
    # of listener 1: 13 has 1.0 · 0.4 + 0.5 · 0.4, 14 has 0.5, 15 has 0.05 (11 was not liked); 12 was heard
    # of 2 and 3 nothing is known but what is popular: 10 and 13 (1.0), 14 (0.9), 11 and 12 (0.5), 15 never heard
    lists, sizes = make_user_lists(heard, neighbours, 4).of(np.array([1, 2, 3]))
    assert lists.tolist() == [[13, 14, 15, -1], [10, 11, 12, 15], [10, 13, 14, 12]]
    assert sizes.tolist() == [3, 4, 4]


def test_the_order_of_reading_and_copies_make_no_difference() -> None:
    rng = np.random.default_rng(4)
    rows = [(int(s), int(s) % 5, int(rng.integers(20)), float(rng.random())) for s in rng.integers(0, 30, 200)]
    heard = heard_of(rows)
    order = np.concatenate([rng.permutation(200), rng.integers(0, 200, 50)])
    parts = [ListenColumns._make(column[rows_of] for column in heard) for rows_of in (order[:120], order[120:])]
    again = ListenColumns.join(parts)
    assert build_models(ListenColumns.join([heard]), 5, 5) == build_models(again, 5, 5)


def test_no_listens_make_no_lists() -> None:
    with pytest.raises(RecommenderError, match="there are no listens to build lists from"):
        build_models(ListenColumns.join([]), 5, 5)


def test_lists_come_back_from_their_bytes() -> None:
    neighbours, user_lists = build_models(heard_of([(0, 1, 10, 1.0), (0, 1, 11, 1.0), (1, 2, 12, 1.0)]), 3, 2)
    assert (neighbours.name, neighbours.version, neighbours.timestamp_ms) == ("neighbours", 3, 2)
    assert Lists.from_bytes(neighbours.body).of(np.array([10, 11, 12]))[1].tolist() == [1, 1, 0]
    assert Lists.from_bytes(user_lists.body).of(np.array([1, 2]))[0].tolist() == [[12, -1], [10, 11]]
