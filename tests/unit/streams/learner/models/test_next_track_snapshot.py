"""Invariant: the model of a snapshot ranks as the model that was written, or, where that has no room, nearly so."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from botify.streams.learner.models.next_track import NextTrack
from botify.streams.learner.models.next_track_projection import (
    LEAST_NEIGHBOURS,
    model_of_snapshot,
    most_items,
    snapshot_of,
)
from botify.streams.learner.models.tables import pack, unpack

TRACKS, USERS = 400, 60
RNG = np.random.default_rng(11)


def learned(events: int) -> NextTrack:
    rng = np.random.default_rng(5)
    model = NextTrack()
    users = rng.integers(0, USERS, events)
    tracks = (users % 7 * 40 + rng.zipf(1.3, events)) % TRACKS * 3  # ids are not rows
    model.learn(users, tracks, rng.choice([0.0, 0.3, 1.0], events), np.arange(1, events + 1) * 1_000)
    return model


def histories(n: int = 40) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    """Some empty, some of tracks that are not known."""
    lengths = RNG.integers(0, 30, n)
    total = int(lengths.sum())
    return RNG.integers(0, TRACKS * 3 + 50, total), RNG.random(total).astype(np.float32), lengths


MODEL = learned(6_000)


def sizes_of(body: bytes) -> NDArray[np.int64]:
    return unpack(body)[1]["counts"].astype(np.int64)


@pytest.mark.parametrize("events", [1, 30, 6_000])
def test_a_snapshot_with_room_ranks_exactly_as_its_model(events: int) -> None:
    model = learned(events)
    body, cut = snapshot_of(model, 1 << 24)
    assert cut == 0
    asked = histories()
    for excluded in (True, False):
        tracks, scores = model.rank_histories(*asked, 50, exclude_history=excluded)
        found, found_scores = model_of_snapshot(body).rank_histories(*asked, 50, exclude_history=excluded)
        assert found.tolist() == tracks.tolist()
        assert found_scores.tolist() == scores.tolist()


def test_equal_models_have_equal_snapshots_that_say_nothing_of_listeners() -> None:
    body, _ = snapshot_of(MODEL, 1 << 24)
    assert snapshot_of(NextTrack.from_bytes(MODEL.to_bytes()), 1 << 24).body == body
    assert not {"user_ids", "user_last", "ring_items"} & unpack(body)[1].keys()


@pytest.mark.parametrize("share", [0.8, 0.5, 0.25])
def test_a_snapshot_without_room_keeps_the_heaviest_of_each_track(share: float) -> None:
    whole, _ = snapshot_of(MODEL, 1 << 24)
    most = int(len(whole) * share)
    body, cut = snapshot_of(MODEL, most)
    assert 0.9 * most < len(body) <= most or cut == 0
    before, after = sizes_of(whole), sizes_of(body)
    assert cut == before.sum() - after.sum()
    assert (after == np.minimum(before, after.max())).all()
    arrays = MODEL.arrays()
    kept = model_of_snapshot(body).arrays()["neighbours"]
    for row in range(len(before)):
        there = arrays["neighbours"][row] >= 0
        wide = arrays["weights"][row, there, 2]
        left = np.isin(arrays["neighbours"][row, there], kept[row, kept[row] >= 0])
        assert left.sum() == after[row]
        assert wide[left].min(initial=np.inf) >= wide[~left].max(initial=0)


def test_a_snapshot_that_was_cut_ranks_nearly_as_its_model() -> None:
    whole, _ = snapshot_of(MODEL, 1 << 24)
    body, cut = snapshot_of(MODEL, len(whole) // 2)
    assert cut > 0
    asked = histories(200)
    tracks, _ = MODEL.rank_histories(*asked, 10)
    found, _ = model_of_snapshot(body).rank_histories(*asked, 10)
    assert np.mean([len(set(one) & set(other)) for one, other in zip(found.tolist(), tracks.tolist(), strict=True)]) > 8


@pytest.mark.parametrize("most_bytes", [100_000, 400_000])
def test_as_many_tracks_as_have_room_may_keep_the_least_number_of_neighbours(most_bytes: int) -> None:
    items, rng = most_items(most_bytes), np.random.default_rng(1)
    model = NextTrack()
    tracks = np.concatenate([np.arange(items), rng.integers(0, items, 3 * items)])
    model.learn(np.zeros(len(tracks)), tracks, np.ones(len(tracks)), np.arange(1, len(tracks) + 1))
    body, cut = snapshot_of(model, most_bytes)
    assert cut > 0
    assert len(body) <= most_bytes
    assert sizes_of(body).max() >= LEAST_NEIGHBOURS


def test_a_model_that_has_forgotten_tracks_is_read_with_its_free_rows() -> None:
    model = learned(6_000)
    known = model.items
    model.forget_items(known // 2)
    body, _ = snapshot_of(model, 1 << 24)
    restored = model_of_snapshot(body)
    assert restored.items == known // 2
    asked = histories()
    assert restored.rank_histories(*asked, 20)[0].tolist() == model.rank_histories(*asked, 20)[0].tolist()


@pytest.mark.parametrize(
    "body",
    [
        b"rubbish",
        pack({}, {"ids": np.arange(2)}),
        pack({"settings": {}, "seed": 0}, {"item_ids": np.arange(2), "counts": np.ones(2), "entries": np.zeros(1)}),
    ],
)
def test_other_bytes_are_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"header|not a snapshot|neighbours of"):
        model_of_snapshot(body)
