"""Ranking metrics against their definitions, diversity, and the split in time."""

import math

import numpy as np
import pandas as pd
import pytest

from botify.analytics import AnalyticsError
from botify.analytics.offline import ranking
from botify.analytics.offline.ranking import NO_TRACK, judge, ndcg, temporal_split


@pytest.mark.parametrize("k", [1, 3, 10, 15])
def test_agrees_with_loops(k: int) -> None:
    rng = np.random.default_rng(8)
    users = np.arange(50) * 3
    lists = np.array([rng.permutation(40)[:10] for _ in users])
    pairs = [(int(u), int(t)) for u in users[:-5] for t in rng.permutation(40)[: rng.integers(1, 12)]]
    rankings = judge(users, lists, pd.DataFrame(pairs, columns=["user", "track"]))
    assert rankings.users.tolist() == users[:-5].tolist()
    for i, user in enumerate(users[:-5]):
        liked = {track for owner, track in pairs if owner == user}
        ranks = [r for r, track in enumerate(lists[i, :k], start=1) if track in liked]
        best = sum(1 / math.log2(r + 1) for r in range(1, min(len(liked), k) + 1))
        assert ranking.hit_rate(rankings, k)[i] == bool(ranks)
        assert ranking.reciprocal_rank(rankings, k)[i] == pytest.approx(1 / ranks[0] if ranks else 0.0, rel=1e-9)
        assert ndcg(rankings, k)[i] == pytest.approx(sum(1 / math.log2(r + 1) for r in ranks) / best, rel=1e-9)


def test_a_list_that_ends_early_has_no_hits_at_its_end_and_liking_twice_is_liking() -> None:
    liked = pd.DataFrame({"user": [1, 1], "track": [NO_TRACK, 5]})
    assert judge([1], [[4, NO_TRACK, NO_TRACK]], liked).hits.tolist() == [[False, False, False]]
    assert judge([1], [[4]], pd.DataFrame({"user": [1, 1], "track": [4, 4]})).liked.tolist() == [1]


def test_lists_that_cannot_be_judged_are_refused() -> None:
    liked = pd.DataFrame({"user": [1], "track": [4]})
    with pytest.raises(AnalyticsError, match="user 1 has a track twice"):
        judge([1], [[4, 4]], liked)
    with pytest.raises(AnalyticsError, match="2 users"):
        judge([1, 2], [[4]], liked)
    with pytest.raises(AnalyticsError, match="k is 0"):
        ndcg(judge([1], [[4]], liked), 0)


def test_lists_that_end_early_count_what_they_have() -> None:
    lists = [[0, 1], [2, NO_TRACK]]
    popularity = np.array([4, 2, 2, 0])
    assert ranking.coverage(lists, 4) == 0.75
    assert ranking.novelty(lists, popularity) == pytest.approx([(np.log2(9 / 4) + np.log2(9 / 2)) / 2, np.log2(9 / 2)])
    assert ranking.popularity_bias(lists, np.array([3.0, 1.0]), popularity).tolist() == [1.0, 2.0]
    assert np.isnan(ranking.novelty([[NO_TRACK]], np.array([1, 1]))).all()


def test_gini_is_half_the_mean_difference_over_the_mean() -> None:
    shown = np.random.default_rng(9).zipf(1.6, 500) % 30
    counts = np.bincount(shown, minlength=30)
    differences = np.abs(counts[:, None] - counts[None, :]).mean()
    assert ranking.gini(shown[:, None], 30) == pytest.approx(differences / 2 / counts.mean(), rel=1e-9)


def test_everything_before_one_moment_is_the_past() -> None:
    times = np.random.default_rng(10).integers(0, 300, 1_000)
    past, future = temporal_split(pd.DataFrame({"timestamp_ms": times}), 0.25)
    assert past["timestamp_ms"].max() < future["timestamp_ms"].min()
    assert len(past) + len(future) == 1_000
    assert len(future) == pytest.approx(250, abs=10)


@pytest.mark.parametrize(("times", "share"), [([], 0.5), ([1, 1, 1], 0.5), ([1, 2], 0.0), ([1, 2], 1.0)])
def test_what_cannot_be_split_is_refused(times: list[int], share: float) -> None:
    with pytest.raises(AnalyticsError):
        temporal_split(pd.DataFrame({"timestamp_ms": times}), share)
