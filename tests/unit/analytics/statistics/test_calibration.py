"""A/A: where the treatments are the same, how often is a difference found?"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from analytics.statistics.cuped import cuped
from analytics.statistics.sequence import ConfidenceSequence, running_sample
from core.welch import Sample, welch

SPLITS = 1_000
USERS = 2_000


@pytest.fixture(scope="module")
def values() -> NDArray[np.float64]:
    """Times of listeners: skewed, with taste that differs from listener to listener."""
    rng = np.random.default_rng(20)
    return rng.poisson(rng.gamma(2.0, 3.0, USERS)) * rng.random(USERS)


@pytest.fixture(scope="module")
def splits() -> NDArray[np.bool_]:
    return np.random.default_rng(21).random((SPLITS, USERS)) < 0.5


def test_welch_finds_a_difference_in_one_split_of_twenty(
    values: NDArray[np.float64], splits: NDArray[np.bool_]
) -> None:
    found = sum(welch(Sample.of(values[~split]), Sample.of(values[split])).significant for split in splits)
    assert found / SPLITS == pytest.approx(0.05, abs=0.015)


def test_cuped_keeps_that_rate(values: NDArray[np.float64], splits: NDArray[np.bool_]) -> None:
    before = values + np.random.default_rng(22).normal(scale=values.std(), size=USERS)
    found = 0
    for split in splits:
        adjusted = cuped(values, before, split).values
        found += welch(Sample.of(adjusted[~split]), Sample.of(adjusted[split])).significant
    assert found / SPLITS == pytest.approx(0.05, abs=0.015)


def test_who_looks_after_every_user_is_seldom_fooled(values: NDArray[np.float64], splits: NDArray[np.bool_]) -> None:
    sequence = ConfidenceSequence(tuned_for=USERS // 2)
    fooled = fooled_with_welch = 0
    for split in splits:
        before, after = running_sample(values, ~split), running_sample(values, split)
        distance = np.abs(after.mean - before.mean)
        fooled += bool((distance > sequence.half_width(before, after)).any())
        error = np.sqrt(before.variance / before.n + after.variance / after.n)
        fooled_with_welch += bool((distance > 1.96 * error)[100:].any())
    assert fooled / SPLITS <= 0.05
    assert fooled_with_welch / SPLITS > 0.25  # what the sequence is for
