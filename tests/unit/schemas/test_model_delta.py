"""Invariant: an increment makes the new body of the old one, byte for byte, and costs what has changed."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from botify.schemas.model_delta import apply_delta, delta_of
from botify.streams.learner.models.tables import pack


def applied(old: bytes, delta: bytes) -> bytes:
    out = io.BytesIO()
    apply_delta(old, delta, out)
    return out.getvalue()


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_any_bytes(old: bytes, new: bytes) -> None:
    assert applied(old, delta_of(old, new)) == new


COUNTS = st.lists(st.integers(0, 4), max_size=6)


def lists_body(counts: list[int], seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    entries = rng.integers(0, 3, (sum(counts), 2)).astype(np.float32)
    return pack({"seed": seed}, {"counts": np.array(counts, dtype=np.uint16), "entries": entries, "ids": entries[:, 0]})


@given(COUNTS, st.integers(0, 3), COUNTS, st.integers(0, 3))
def test_packed_arrays_of_any_shape(counts: list[int], seed: int, later: list[int], later_seed: int) -> None:
    old, new = lists_body(counts, seed), lists_body(later, later_seed)
    assert applied(old, delta_of(old, new)) == new


TRACKS = 20_000


def one_percent(rng: np.random.Generator) -> NDArray[np.int64]:
    return rng.choice(TRACKS, TRACKS // 100, replace=False)


def changed_rows(rng: np.random.Generator) -> tuple[bytes, bytes]:
    """As `fism` and `i2i_stream`: rows of half precision; 1 % of them change, and a few are added."""
    ids, rows = np.arange(TRACKS, dtype=np.int32), rng.normal(size=(TRACKS, 33)).astype(np.float16)
    old = pack({}, {"ids": ids, "tracks": rows, "artist_of": ids // 7})
    rows = rows.copy()
    rows[one_percent(rng)] += 1
    ids = np.arange(TRACKS + 10, dtype=np.int32)
    more = np.concatenate([rows, rows[:10]])
    return old, pack({"more": True}, {"ids": ids, "tracks": more, "artist_of": ids // 7})


def changed_lists(rng: np.random.Generator) -> tuple[bytes, bytes]:
    """As `next_track`: lists of neighbours of any length; 1 % of them get one more."""
    counts = rng.integers(10, 60, TRACKS)

    def body(counts: NDArray[Any], entries: NDArray[Any]) -> bytes:
        return pack({}, {"counts": counts.astype(np.uint16), "entries": entries, "plays": np.arange(TRACKS) / 7})

    entries = rng.normal(size=(counts.sum(), 3)).astype(np.float32)
    grown = one_percent(rng)
    ends = np.cumsum(counts)[np.sort(grown)]
    later = counts.copy()
    later[grown] += 1
    return body(counts, entries), body(later, np.insert(entries, ends, 0.5, axis=0))


@pytest.mark.parametrize("made", [changed_rows, changed_lists])
def test_a_change_of_one_percent_of_the_rows_costs_at_most_3_percent(made: Any) -> None:
    old, new = made(np.random.default_rng(0))
    delta = delta_of(old, new)
    assert applied(old, delta) == new
    assert len(delta) <= 0.03 * len(new)


def test_what_is_no_increment_of_this_body_is_refused() -> None:
    old = bytes(range(100))
    delta = delta_of(old, old[:50] + b"x" + old[51:])
    for wrong in (b"", b"BMD1", delta[:-1], delta + b"x", delta[:20] + b"\0" + delta[21:]):
        with pytest.raises(ValueError, match="increment"):
            applied(old, wrong)
    with pytest.raises(ValueError, match="longer body than the 10 bytes"):
        applied(old[:10], delta)
