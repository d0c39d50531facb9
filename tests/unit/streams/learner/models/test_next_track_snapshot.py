"""Invariant: the model of a snapshot ranks as the model that was written, or, where that has no room, nearly so."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from botify.schemas.training import TrainingColumns
from botify.streams.learner.models import next_track_projection as projection
from botify.streams.learner.models.next_track import NextTrack
from botify.streams.learner.models.next_track_projection import NextTrackProjection, model_of_snapshot, snapshot_of
from botify.streams.learner.models.tables import pack, unpack
from tests.learning import random_listens
from tests.unit.streams.learner.models.test_next_track import stream

TRACKS = 400
RNG = np.random.default_rng(11)


def learned(events: int) -> NextTrack:
    model = NextTrack()
    model.learn(*stream(events, seed=5, users=60, tracks=TRACKS))
    return model


def histories() -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    lengths = RNG.integers(0, 30, 40)
    total = int(lengths.sum())
    return RNG.integers(0, TRACKS + 20, total), RNG.random(total).astype(np.float32), lengths


MODEL = learned(6_000)
WHOLE = snapshot_of(MODEL, 1 << 24).body


def sizes_of(body: bytes) -> NDArray[np.int64]:
    return unpack(body)[1]["counts"].astype(np.int64)


@pytest.mark.parametrize(("events", "items"), [(1, None), (30, None), (6_000, None), (6_000, 200)])
def test_a_snapshot_with_room_ranks_exactly_as_its_model(events: int, items: int | None) -> None:
    model = learned(events)
    if items is not None:
        model.forget_items(items)  # rows are free then
    body, cut = snapshot_of(model, 1 << 24)
    assert (cut, model_of_snapshot(body).items) == (0, items or model.items)
    asked = histories()
    for excluded in (True, False):
        tracks, scores = model.rank_histories(*asked, 50, exclude_history=excluded)
        found, found_scores = model_of_snapshot(body).rank_histories(*asked, 50, exclude_history=excluded)
        assert found.tolist() == tracks.tolist()
        assert found_scores.tolist() == scores.tolist()


def test_equal_models_have_equal_snapshots_that_say_nothing_of_listeners() -> None:
    assert snapshot_of(NextTrack.from_bytes(MODEL.to_bytes()), 1 << 24).body == WHOLE
    assert not {"user_ids", "user_last", "ring_items"} & unpack(WHOLE)[1].keys()


@pytest.mark.parametrize("share", [0.8, 0.5, 0.25])
def test_a_snapshot_without_room_keeps_the_heaviest_of_each_track(share: float) -> None:
    most = int(len(WHOLE) * share)
    body, cut = snapshot_of(MODEL, most)
    assert 0.9 * most < len(body) <= most or cut == 0
    before, after = sizes_of(WHOLE), sizes_of(body)
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


@pytest.mark.parametrize("most_bytes", [100_000, 400_000])
def test_as_many_tracks_as_have_room_may_keep_the_least_number_of_neighbours(most_bytes: int) -> None:
    items, rng = projection.most_items(most_bytes), np.random.default_rng(1)
    model = NextTrack()
    tracks = np.concatenate([np.arange(items), rng.integers(0, items, 3 * items)])
    model.learn(np.zeros(len(tracks)), tracks, np.ones(len(tracks)), np.arange(1, len(tracks) + 1))
    body, cut = snapshot_of(model, most_bytes)
    assert cut > 0
    assert len(body) <= most_bytes
    assert sizes_of(body).max() >= projection.LEAST_NEIGHBOURS


@pytest.mark.parametrize(
    "body",
    [
        b"rubbish",
        pack({}, {"ids": np.arange(2)}),
        pack({"settings": {}, "seed": 0}, {"item_ids": np.arange(2), "counts": np.ones(2), "entries": np.zeros(1)}),
    ],
)
@pytest.mark.parametrize("read", [model_of_snapshot, projection.SimilarTracks], ids=["model", "similar"])
def test_other_bytes_are_refused(body: bytes, read: Callable[[bytes], object]) -> None:
    with pytest.raises(ValueError, match=r"header|not a snapshot|neighbours of"):
        read(body)


@pytest.mark.parametrize(
    ("body", "exact"),
    [(WHOLE, True), (NextTrackProjection.merged([WHOLE]), True), (snapshot_of(MODEL, len(WHOLE) // 2).body, False)],
    ids=["whole", "merged", "cut"],
)
def test_similar_tracks_are_those_to_which_the_model_cuts_the_candidates_of_one(body: bytes, exact: bool) -> None:
    similar, arrays = projection.SimilarTracks(body), MODEL.arrays()
    ids = arrays["item_ids"].tolist()
    for track in ids[::10]:
        worth = MODEL.evidence([track], [1.0], ids)[0] * arrays["damped"]
        found = dict(similar.of(track))
        of_found = worth[[ids.index(other) for other in found]]
        assert track not in found
        assert list(found.values()) == pytest.approx((of_found / of_found.max(initial=0)).tolist(), rel=0.01, abs=1e-3)
        if exact:
            assert len(found) == min(projection.SIMILAR, (worth > 0).sum())
            assert of_found.tolist() == pytest.approx((-np.sort(-worth)[: len(found)]).tolist(), rel=0.01)
    assert len(similar.of(ids[0])) > 5


ITEMS, N = 300, 3_000
LISTENS = random_listens(N, seed=7, users=50, tracks=ITEMS)


def learned_from(listens: TrainingColumns) -> NextTrackProjection:
    model = NextTrackProjection({})
    model.learn_listens(listens)
    return model


def test_the_tracks_played_least_are_forgotten_so_that_an_eighth_has_room() -> None:
    model = learned_from(LISTENS)
    assert model.make_room(60_000) == len(np.unique(LISTENS.tracks)) - projection.most_items(60_000) * 7 // 8
    assert model.make_room(60_000) == 0
    most_played = np.argsort(-np.bincount(LISTENS.tracks, LISTENS.fractions, ITEMS))
    ids = model.model.arrays()["item_ids"]
    kept = ids[ids >= 0]
    # they decay by a few parts in a thousand here, so only those near the threshold may be exchanged
    assert len(np.setdiff1d(most_played[: len(kept)], kept)) <= 5


def test_of_what_was_served_one_listen_in_eight_teaches() -> None:
    taught = []
    for served in (False, True):
        arrays = learned_from(replace(LISTENS, served=np.full(N, served))).model.arrays()
        assert (arrays["neighbours"] >= 0).any()
        taught.append([arrays["vector_squares"][:, 1].sum(), arrays["clock"][4]])
    for by_choice, by_serving in zip(*taught, strict=True):
        assert 0.05 < by_serving / by_choice < 0.2


def test_a_track_of_which_nothing_was_heard_is_left_out_and_brings_nothing() -> None:
    model = learned_from(replace(LISTENS, fractions=np.zeros(N, dtype=np.float32)))
    assert (model.model.arrays()["neighbours"] < 0).all()
