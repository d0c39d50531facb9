"""Invariant: the job's lists are those of the plain formulas, whatever the order and however often a listen comes."""

import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from botify.core.sql import open_duckdb
from botify.schemas.events import Track
from botify.schemas.external_ids import UserIds
from botify.services.errors import RecommenderError
from botify.services.lists import build
from botify.services.lists.build import (
    COLUMNS,
    SHARE_STEPS,
    SIMILARITY_STEPS,
    ListenColumns,
    Neighbours,
    build_models,
    files_of,
    find_neighbours,
    heard_of_parquet,
    make_user_lists,
)
from botify.services.lists.publish import ReadLists, read_lists
from botify.services.lists.sql import build_models_in
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


def write(folder: Path, logs: list[Row]) -> Path:
    """Write listens as two files of two days, the last ten of the first a second time in the second."""
    folder.mkdir(exist_ok=True)
    listens = [(f"e{at}", f"s{s}", user, track, fraction, at) for at, (s, user, track, fraction) in enumerate(logs)]
    half = (len(listens) + 1) // 2
    for day, part in ("2026-01-01", listens[:half]), ("2026-01-02", listens[max(0, half - 10) :]):
        (folder / f"day={day}").mkdir(exist_ok=True)
        table = pa.table(dict(zip(COLUMNS, map(list, zip(*part, strict=True)), strict=True)))
        parquet.write_table(table, folder / f"day={day}" / "part-000000.parquet")
    return folder


fractions = st.sampled_from([0.0, 1e-6, 0.1, 1 / 3, 0.4999, 0.5, 0.9, 1.0])
logs = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3), st.integers(0, 9), fractions), min_size=2, max_size=60)


@settings(deadline=None, max_examples=60)
@given(logs, st.integers(1, 4), st.integers(1, 6))
def test_the_lists_are_those_of_numpy(
    tmp_path_factory: pytest.TempPathFactory, logs: list[Row], neighbours: int, per_user: int
) -> None:
    folder = write(tmp_path_factory.mktemp("export"), logs)
    expected = build_models(heard_of_parquet(folder), neighbours, per_user)
    with open_duckdb() as engine:
        assert build_models_in(engine, files_of(folder), neighbours, per_user) == expected


def test_long_sessions_are_cut_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path, [(at % 2, 1, at // 2 % 109, 1.0) for at in range(320)])
    assert build.MAX_SESSION_TRACKS == 100  # a session here has 109 tracks
    expected = build_models(heard_of_parquet(folder), 120, 120)
    with open_duckdb() as engine:
        assert build_models_in(engine, files_of(folder), 120, 120) == expected
    monkeypatch.setattr(build, "MAX_SESSION_TRACKS", 109)
    assert build_models(heard_of_parquet(folder), 120, 120) != expected


def test_a_folder_without_listens_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecommenderError, match="is not a folder"):
        files_of(tmp_path / "none")
    with pytest.raises(RecommenderError, match="is not an export of listens"):
        files_of(tmp_path)
    folder = write(tmp_path / "empty", [(0, 0, 0, 1.0)])
    for file in files_of(folder):
        parquet.write_table(parquet.read_table(file)[:0], file)
    with open_duckdb() as engine, pytest.raises(RecommenderError, match="there are no listens"):
        build_models_in(engine, files_of(folder), 5, 5)
    (tmp_path / "other").mkdir()
    parquet.write_table(pa.table({"user": [1]}), tmp_path / "other" / "users.parquet")
    with pytest.raises(RecommenderError, match="is not an export of listens"):
        files_of(tmp_path / "other")


TRACKS = {track: Track(track, "a", None, None, "x", f"t{track}") for track in range(5)}


def read(tmp_path: Path, body: Any, users: UserIds | None = None) -> ReadLists:
    path = tmp_path / "recs.json"
    path.write_text(body if isinstance(body, str) else json.dumps(body))
    return read_lists(path, TRACKS, users or UserIds(["alice", "bob"]), 7, 1_000)


def lists_in(read: ReadLists, name: str, keys: list[int]) -> list[list[int]]:
    (body,) = [model.body for model in read.models if model.name == name]
    tracks, sizes = Lists.from_bytes(body).of(np.array(keys))
    return [row[:size] for row, size in zip(tracks.tolist(), sizes.tolist(), strict=True)]


def test_users_and_items_by_their_external_ids(tmp_path: Path) -> None:
    found = read(tmp_path, {"users": {"bob": ["t3", "t1"], "alice": ["t2"]}, "items": {"t0": ["t4", 1]}})
    assert lists_in(found, "user-lists", [0, 1]) == [[2], [3, 1]]
    assert lists_in(found, "neighbours", [0, 1]) == [[4, 1], []]
    assert (found.lists, found.unknown) == ({"user-lists": 2, "neighbours": 1}, [])
    assert {model.version for model in found.models} == {7}


def test_what_is_unknown_is_left_out_and_named(tmp_path: Path) -> None:
    found = read(tmp_path, {"items": {"t0": ["t1", "none"], "nothing": ["t1"]}})
    assert (found.lists, found.unknown) == ({"neighbours": 1}, ["none", "nothing"])


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("{", "is not JSON"),
        ("[]", "valid dictionary"),
        ({"user": {}}, "user: Extra inputs"),
        ({"users": {"alice": "t1"}}, r"users\.alice"),
        ({}, "no list of known"),
        ({"items": {"none": ["t1"]}}, "unknown: none"),
    ],
)
def test_another_form_is_refused(tmp_path: Path, body: Any, why: str) -> None:
    with pytest.raises(RecommenderError, match=why):
        read(tmp_path, body)
