"""Invariant: the top of a partition is exactly its best tracks; of equal scores the smaller track id is better."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from botify.streams.folds.columns.popularity import Popularity
from botify.streams.folds.popularity import HALF_LIVES_MS, POPULARITY, top_collection

TOP = 3
heard = st.lists(
    st.tuples(st.integers(0, 8), st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0, 0, 0, 3_600_000, 10**9])),
    min_size=1,
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(st.lists(heard, min_size=1, max_size=6), st.booleans())
def test_the_top_is_exact_after_every_batch(batches: list[list[tuple[int, float, int]]], restarts: bool) -> None:
    popularity = Popularity(top_tracks=TOP)
    hash_: dict[bytes, bytes | None] = {}
    tops: dict[str, dict[bytes, float]] = {top_collection(half_life): {} for half_life in HALF_LIVES_MS}
    for batch in batches:
        if restarts:
            popularity = Popularity(top_tracks=TOP)
            for name, top in tops.items():
                popularity.load_scores(name, top)
        tracks, fractions, times_ms = (np.array(column) for column in zip(*batch, strict=True))
        for fields in popularity.missing(tracks).values():
            popularity.load_fields({field: hash_.get(field) for field in fields})
        popularity.add(tracks, fractions, times_ms)
        changes = popularity.changes()
        hash_.update(changes.hashes.get(POPULARITY, {}))
        for name, members in changes.scores.items():
            for member, score in members.items():
                if score is None:
                    del tops[name][member]  # nothing is removed that was not there
                else:
                    tops[name][member] = score
        for column, half_life in enumerate(HALF_LIVES_MS):
            scores = {int(t): float(np.frombuffer(record)[column]) for t, record in hash_.items() if record}
            ranked = sorted(scores.items(), key=lambda item: (-item[1], item[0]))[:TOP]
            assert {int(t): score for t, score in tops[top_collection(half_life)].items()} == dict(ranked)
