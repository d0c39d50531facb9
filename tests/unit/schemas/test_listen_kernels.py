"""Invariant: the compiled code hashes ids as mmh3 does, and finds equal causes by their bytes alone."""

from __future__ import annotations

import mmh3
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from botify.schemas.listen_kernels import first_rows, hash_of

CAUSES = st.none() | st.sampled_from(["", "mix", "mi", "x"])


@pytest.mark.parametrize("size", range(1, 70))
def test_ids_of_any_length_have_the_hash_of_mmh3(size: int) -> None:
    id_ = bytes((size * 37 + at * 101) % 256 for at in range(size))
    raw = np.frombuffer(b"before" + id_ + b"after", np.uint8)
    assert int(hash_of(raw, 6, 6 + size)) == int.from_bytes(mmh3.hash_bytes(id_)[:8], "little")


@settings(deadline=None)  # the first example compiles
@given(st.lists(st.tuples(CAUSES, CAUSES, st.booleans()), max_size=40))
def test_rows_of_one_cause_have_the_first_of_them(rows: list[tuple[str | None, str | None, bool]]) -> None:
    raw, places = b"", np.zeros((2, len(rows), 2), dtype=np.int64)
    for at, row in enumerate(rows):
        for which, text in enumerate(row[:2]):
            places[which, at] = len(raw), -1 if text is None else len(text)
            raw += (text or "").encode()
    good = np.array([row[2] for row in rows], dtype=np.bool_)
    firsts = np.empty(len(rows), dtype=np.int64)
    first_rows(np.frombuffer(raw, np.uint8), places[0], places[1], good, firsts)
    known: dict[tuple[str | None, str | None], int] = {}
    assert firsts.tolist() == [known.setdefault(row[:2], at) if row[2] else -1 for at, row in enumerate(rows)]
