"""Comparing folds, against plain loops."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analytics.data import listens_frame
from analytics.popularity import HOUR_MS, hit_rate, overlap, popularity_over_time, time_grid
from tests.support import make_listens

STEP_MS = 10 * 60_000
"""The listens span two hours or so."""


def test_what_is_foretold_is_known_before_it_is_chosen() -> None:
    listens = listens_frame(make_listens(800, users=20, tracks=40, seed=4))
    times = time_grid(listens, step_ms=STEP_MS)
    popularity = popularity_over_time(listens, HOUR_MS, times)
    found = hit_rate(popularity, listens, count=5)
    assert len(times) > 10
    for row in range(len(times) - 1):
        top = set(popularity.iloc[row].nlargest(5).index)
        later = listens[(listens["timestamp_ms"] > times[row]) & (listens["timestamp_ms"] <= times[row + 1])]
        if len(later):
            assert found.iloc[row] == pytest.approx(later["track"].isin(top).mean())
        else:
            assert np.isnan(found.iloc[row])


def test_a_track_that_is_not_known_yet_cannot_be_foretold() -> None:
    popularity = pd.DataFrame({1: [1.0, 1.0]}, index=pd.to_datetime([0, 10], unit="ms", utc=True))
    chosen = pd.DataFrame({"track": [2, 1], "timestamp_ms": [5, 6]})
    assert hit_rate(popularity, chosen, count=1).tolist() == [0.5]


def test_a_fold_agrees_with_itself() -> None:
    popularity = pd.DataFrame(np.random.default_rng(5).random((3, 20)))
    assert overlap(popularity, popularity, count=5) == 1.0
    assert overlap(popularity, -popularity, count=5) == 0.0
