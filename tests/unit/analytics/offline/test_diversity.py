from __future__ import annotations

import numpy as np
import pytest

from analytics.offline.diversity import coverage, gini, novelty, popularity_bias
from analytics.offline.ranking import NO_TRACK


def test_lists_that_end_early_count_what_they_have() -> None:
    lists = [[0, 1], [2, NO_TRACK]]
    popularity = np.array([4, 2, 2, 0])
    assert coverage(lists, 4) == 0.75
    assert novelty(lists, popularity) == pytest.approx([(np.log2(9 / 4) + np.log2(9 / 2)) / 2, np.log2(9 / 2)])
    assert popularity_bias(lists, np.array([3.0, 1.0]), popularity).tolist() == [1.0, 2.0]


def test_a_user_without_a_list_has_no_mean() -> None:
    assert np.isnan(novelty([[NO_TRACK]], np.array([1, 1]))).all()


def test_gini_is_half_the_mean_difference_over_the_mean() -> None:
    shown = np.random.default_rng(9).zipf(1.6, 500) % 30
    counts = np.bincount(shown, minlength=30)
    differences = np.abs(counts[:, None] - counts[None, :]).mean()
    assert gini(shown[:, None], 30) == pytest.approx(differences / 2 / counts.mean(), rel=1e-9)
