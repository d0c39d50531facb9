"""Lists that were made anywhere become the models of the list recommenders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from botify.schemas.events import Track
from botify.schemas.external_ids import UserIds
from botify.services.errors import RecommenderError
from botify.services.lists.publish import ReadLists, read_lists
from botify.services.recommender.lists import Lists

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
