"""Invariant: what `next_track` learns and forgets is a function of the listens, however they were batched."""

from __future__ import annotations

import numpy as np
import pytest

from botify.schemas.training import TrainingColumns
from botify.streams.learner.learner import LEARN_LISTENS
from botify.streams.learner.model import ListenModel, SessionModel
from botify.streams.learner.models.next_track_projection import NextTrackProjection, most_items, values_of

TRACKS, N = 300, 3_000
RNG = np.random.default_rng(7)
LISTENS = TrainingColumns(
    np.arange(N, dtype=np.uint32),
    RNG.integers(0, 50, N),
    RNG.integers(0, TRACKS, N).astype(np.int32),
    RNG.random(N, dtype=np.float32),
    np.arange(1, N + 1) * 1_000,
    np.zeros(N, dtype=np.uint64),
    np.zeros(N, dtype=np.bool_),
)


def learned(size: int, most_bytes: int = 1 << 24) -> tuple[NextTrackProjection, int]:
    """Learn in pieces that end at each multiple of `LEARN_LISTENS` too, and make room there, as the learner does."""
    model, forgotten = NextTrackProjection({}), 0
    ends = sorted({*range(size, N, size), *range(LEARN_LISTENS, N, LEARN_LISTENS), N})
    for begin, end in zip([0, *ends[:-1]], ends, strict=True):
        model.learn_listens(LISTENS.rows(slice(begin, end)))
        if end % LEARN_LISTENS == 0:
            forgotten += model.make_room(most_bytes)
    return model, forgotten


def test_it_learns_from_listens_and_not_from_sessions() -> None:
    model = NextTrackProjection({})
    assert isinstance(model, ListenModel)
    assert not isinstance(model, SessionModel)


@pytest.mark.parametrize("most_bytes", [1 << 24, 60_000])
def test_how_listens_are_cut_makes_no_difference(most_bytes: int) -> None:
    (one, forgotten), (other, also) = learned(N, most_bytes), learned(7, most_bytes)
    assert one.to_bytes() == other.to_bytes()
    assert one.snapshot() == other.snapshot()
    assert forgotten == also
    assert (forgotten > 0) == (most_bytes < 1 << 24)


def test_room_is_made_for_an_eighth_at_once() -> None:
    model, _ = learned(N)
    room = most_items(60_000)
    assert model.make_room(60_000) == TRACKS - room * 7 // 8
    assert model.make_room(60_000) == 0


def test_the_tracks_played_least_are_forgotten() -> None:
    model, _ = learned(N)
    plays = np.bincount(LISTENS.tracks, values_of(LISTENS.fractions), TRACKS)
    model.make_room(60_000)
    ids = model.model.arrays()["item_ids"]
    kept = ids[ids >= 0]
    order = np.argsort(-plays)
    # they decay by a few parts in a thousand here, so only those near the threshold may be exchanged
    assert len(np.setdiff1d(order[: len(kept)], kept)) <= 5


def test_a_track_of_which_nothing_was_heard_is_left_out_and_brings_nothing() -> None:
    assert values_of(np.array([0.0, 1.0])).tolist() == [0.0, 1.0]
    model = NextTrackProjection({})
    heard = LISTENS.rows(slice(0, 600))
    skipped = TrainingColumns(
        heard.offsets, heard.users, heard.tracks, np.zeros(600, np.float32), heard.timestamps_ms, heard.sessions,
        heard.ended,
    )  # fmt: skip
    model.learn_listens(skipped)
    assert (model.model.arrays()["neighbours"] < 0).all()
