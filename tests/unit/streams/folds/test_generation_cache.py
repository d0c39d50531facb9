"""Invariant: what was used last is still there, and the cache never holds more than twice its size."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from botify.streams.folds.users import GenerationCache


@given(st.integers(1, 5), st.lists(st.tuples(st.booleans(), st.integers(0, 12)), max_size=80))
def test_the_last_entries_are_kept_and_the_rest_is_bounded(size: int, uses: list[tuple[bool, int]]) -> None:
    cache = GenerationCache[int, str](size)
    written: dict[int, str] = {}
    last: list[int] = []
    for at, (writes, key) in enumerate(uses):
        if writes:
            cache[key] = written[key] = f"{key}@{at}"
        found = cache.get(key)
        assert found in (None, written.get(key))
        if writes or key in last[:size]:
            assert found is not None
        if found is not None:
            last = [key, *(other for other in last if other != key)]
        assert len(cache) <= 2 * size
