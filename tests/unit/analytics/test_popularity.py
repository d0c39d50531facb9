"""Popularity over time against a plain loop over listens, and what is found in it."""

import numpy as np
import pandas as pd
import pytest

from botify.analytics.data import listens_frame
from botify.analytics.popularity import HOUR_MS, hit_rate, overlap, popularity_over_time, time_grid
from botify.streams.folds.popularity import HALF_LIVES_MS, popularity_at
from botify.streams.folds.reference import Popularity
from tests.support import make_listens


def test_every_moment_is_the_sum_of_the_definition() -> None:
    listens = listens_frame(make_listens(600, users=20, tracks=15, seed=1))
    times = time_grid(listens)
    found = popularity_over_time(listens, 2 * HOUR_MS, times)
    assert found.shape == (len(times), 15)
    for moment in (0, len(times) // 2, len(times) - 1):
        for track in (0, 7):
            heard = listens[(listens["track"] == track) & (listens["timestamp_ms"] <= times[moment])]
            decay = np.exp2((heard["timestamp_ms"] - times[moment]) / (2 * HOUR_MS))
            assert found.iloc[moment][track] == pytest.approx((heard["fraction"] * decay).sum(), rel=1e-12)


@pytest.mark.parametrize("half_life", list(HALF_LIVES_MS))
def test_the_last_moment_is_what_the_stream_processor_keeps(half_life: str) -> None:
    listens = make_listens(500, users=20, tracks=15, seed=3)
    fold = Popularity(nothing_stored=True)
    for listen in listens:
        fold.fold(listen)
    scores = fold.changes().scores[f"popularity:{half_life}"]
    now_ms = max(listen.timestamp_ms for listen in listens)
    hindsight = popularity_over_time(listens_frame(listens), HALF_LIVES_MS[half_life], [now_ms]).iloc[0]
    for track, score in scores.items():
        assert hindsight[int(track)] == pytest.approx(float(popularity_at(score, half_life, now_ms)), rel=1e-9)


def test_what_is_foretold_is_known_before_it_is_chosen() -> None:
    listens = listens_frame(make_listens(800, users=20, tracks=40, seed=4))
    times = time_grid(listens, step_ms=10 * 60_000)  # of two hours or so
    popularity = popularity_over_time(listens, HOUR_MS, times)
    found = hit_rate(popularity, listens, count=5)
    assert len(times) > 10
    for row in range(len(times) - 1):
        top = set(popularity.iloc[row].nlargest(5).index)
        later = listens[(listens["timestamp_ms"] > times[row]) & (listens["timestamp_ms"] <= times[row + 1])]
        assert found.iloc[row] == pytest.approx(later["track"].isin(top).mean(), nan_ok=True)


def test_a_track_that_is_not_known_yet_cannot_be_foretold() -> None:
    popularity = pd.DataFrame({1: [1.0, 1.0]}, index=pd.to_datetime([0, 10], unit="ms", utc=True))
    chosen = pd.DataFrame({"track": [2, 1], "timestamp_ms": [5, 6]})
    assert hit_rate(popularity, chosen, count=1).tolist() == [0.5]


def test_a_fold_agrees_with_itself() -> None:
    popularity = pd.DataFrame(np.random.default_rng(5).random((3, 20)))
    assert overlap(popularity, popularity, count=5) == 1.0
    assert overlap(popularity, -popularity, count=5) == 0.0
