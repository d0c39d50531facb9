"""Invariant: the job's lists are those of the plain formulas, whatever the order and however often a listen comes."""

import json
import math
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from botify.core.sql import open_duckdb
from botify.schemas.events import Model, Track
from botify.schemas.external_ids import UserIds
from botify.services.errors import RecommenderError
from botify.services.lists.build import (
    COLUMNS,
    LIKED,
    MAX_SESSION_TRACKS,
    SHARE_STEPS,
    SHRINKAGE,
    SIMILARITY_STEPS,
    build_models,
    build_models_in,
    files_of,
    keep_listens,
    make_user_lists,
)
from botify.services.lists.publish import ReadLists, read_lists
from botify.services.recommender.lists import NEIGHBOURS, NO_TRACK, USER_LISTS, Lists, lists_of

Row = tuple[int, int, int, float]
"""(session, user, track, fraction)."""
Plain = dict[int, list[int]]


def frame_of(rows: list[Row]) -> pd.DataFrame:
    listens = [(f"e{at}", f"s{s}", user, track, fraction, at) for at, (s, user, track, fraction) in enumerate(rows)]
    return pd.DataFrame(listens, columns=list(COLUMNS))


def plain_neighbours(rows: list[Row], most: int = MAX_SESSION_TRACKS) -> dict[int, dict[int, int]]:
    """The similarities of the module's docstring in steps, pair by pair."""
    heard: dict[int, dict[int, int]] = defaultdict(dict)
    for session, _, track, fraction in rows:
        if share := _steps(fraction, SHARE_STEPS):
            heard[session][track] = max(share, heard[session].get(track, 0))
    weights: dict[int, dict[int, int]] = defaultdict(dict)
    for session, shares in heard.items():
        for track in sorted(shares)[:most]:
            weights[track][session] = shares[track]
    norm = {track: math.sqrt(sum(w * w for w in of.values())) for track, of in weights.items()}
    found: dict[int, dict[int, int]] = defaultdict(dict)
    for i, of_i in weights.items():
        for j, of_j in weights.items():
            both = of_i.keys() & of_j.keys()
            if i != j and both:
                cosine = sum(of_i[s] * of_j[s] for s in both) / (norm[i] * norm[j])
                if similarity := _steps(cosine * (len(both) / (len(both) + SHRINKAGE)), SIMILARITY_STEPS):
                    found[i][j] = similarity
    return found


def _steps(value: float, per_unit: int) -> int:
    return math.floor(value * per_unit + 0.5)


def best(scores: dict[int, int], count: int) -> dict[int, int]:
    return dict(sorted(scores.items(), key=lambda item: (-item[1], item[0]))[:count])


def plain_lists(rows: list[Row], neighbours: int, per_user: int) -> tuple[Plain, Plain]:
    similar = {track: best(of, neighbours) for track, of in plain_neighbours(rows).items()}
    popular: Counter[int] = Counter()
    heard: dict[int, set[int]] = defaultdict(set)
    scores: dict[int, Counter[int]] = defaultdict(Counter)
    for _, user, track, fraction in rows:
        share = _steps(fraction, SHARE_STEPS)
        popular[track] += share
        heard[user].add(track)
        if fraction >= LIKED:
            scores[user].update({t: share * similarity for t, similarity in similar.get(track, {}).items()})
    users: Plain = {}
    for user, already in heard.items():
        ranked = [*best(scores[user], len(popular)), *best(popular, len(popular))]
        users[user] = [track for track in dict.fromkeys(ranked) if track not in already][:per_user]
    return {track: list(of) for track, of in similar.items()}, users


def plain_of(models: list[Model], rows: list[Row]) -> tuple[Plain, Plain]:
    found = {}
    for model in models:
        assert model.version == len(rows)
        lists, keys = lists_of(model), np.arange(200)
        tracks, sizes = lists.of(keys)
        listed = zip(keys.tolist(), tracks.tolist(), sizes.tolist(), strict=True)
        found[model.name] = {key: row[:size] for key, row, size in listed if size}
    return found[NEIGHBOURS], found[USER_LISTS]


def write(folder: Path, rows: list[Row]) -> Path:
    """Write listens as two files of two days, the last ten of the first a second time in the second."""
    folder.mkdir(exist_ok=True)
    listens, half = frame_of(rows), (len(rows) + 1) // 2
    for day, part in ("2026-01-01", listens[:half]), ("2026-01-02", listens[max(0, half - 10) :]):
        (folder / f"day={day}").mkdir(exist_ok=True)
        parquet.write_table(pa.Table.from_pandas(part), folder / f"day={day}" / "part-000000.parquet")
    return folder


fractions = st.sampled_from([0.0, 1e-6, 0.1, 1 / 3, 0.4999, 0.5, 0.9, 1.0])
logs = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3), st.integers(0, 9), fractions), min_size=2, max_size=60)


@settings(max_examples=60)
@given(logs, st.integers(1, 4), st.integers(1, 6), st.randoms(use_true_random=False))
def test_the_lists_are_those_of_the_formulas_in_any_order_and_with_copies(
    rows: list[Row], neighbours: int, per_user: int, random: Any
) -> None:
    order = [*range(len(rows)), *random.choices(range(len(rows)), k=10)]
    random.shuffle(order)
    models = build_models(frame_of(rows).iloc[order], neighbours, per_user)
    similar, users = plain_lists(rows, neighbours, per_user)
    assert plain_of(models, rows) == (similar, {user: tracks for user, tracks in users.items() if tracks})
    assert len(lists_of(models[1])) == len(users)
    assert {model.timestamp_ms for model in models} == {len(rows) - 1}


def test_long_sessions_are_cut_and_files_give_the_same_bytes(tmp_path: Path) -> None:
    rows = [(at % 2, 1, at // 2 % 109, 1.0) for at in range(320)]  # a session has 109 tracks
    folder = write(tmp_path, rows)
    with open_duckdb() as engine:
        models = build_models_in(engine, files_of(folder), 120, 120)
    assert models == build_models(frame_of(rows), 120, 120)
    assert plain_of(models, rows)[0] == plain_lists(rows, 120, 120)[0]
    assert plain_neighbours(rows) != plain_neighbours(rows, most=109)


def test_a_listener_gets_what_is_similar_to_what_they_liked_and_then_what_is_popular() -> None:
    rows = [(0, 1, 10, 1.0), (0, 1, 11, 0.4), (1, 1, 12, 0.5), (2, 2, 13, 1.0), (2, 2, 14, 0.9), (3, 3, 11, 0.1)]
    similar = {10: {14: 0.5, 13: 0.4, 12: 0.3}, 11: {15: 0.9}, 12: {13: 0.4, 15: 0.1}}
    neighbours = [(i, j, _steps(value, SIMILARITY_STEPS)) for i, of in similar.items() for j, value in of.items()]
    # of listener 1: 13 has 1.0 · 0.4 + 0.5 · 0.4, 14 has 0.5, 15 has 0.05 (11 was not liked); 12 was heard
    # of 2 and 3 nothing is known but what is popular: 10 and 13 (1.0), 14 (0.9), 11 and 12 (0.5); 15 was never heard
    with open_duckdb() as engine:
        engine.load("files", frame_of(rows))
        engine.load("neighbours", pd.DataFrame(neighbours, columns=["key", "track", "similarity"]))
        keep_listens(engine)
        lists, sizes = make_user_lists(engine, 4).of(np.array([1, 2, 3]))
    assert lists.tolist() == [[13, 14, 15, NO_TRACK], [10, 11, 12, NO_TRACK], [10, 13, 14, 12]]
    assert sizes.tolist() == [3, 3, 4]


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
    with pytest.raises(RecommenderError, match="there are no listens"):
        build_models(frame_of([]), 5, 5)
    files_of(folder)[1].write_bytes(b"half a file")
    with pytest.raises(RecommenderError, match="is not an export of listens"):
        files_of(folder)
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
