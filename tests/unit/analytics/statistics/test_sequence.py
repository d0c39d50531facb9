from __future__ import annotations

import math

import numpy as np
import pytest

from analytics.statistics.sequence import ConfidenceSequence, running_sample
from core.welch import Sample, welch


def test_running_samples_equal_samples_made_anew_after_every_user() -> None:
    rng = np.random.default_rng(1)
    values, member = rng.gamma(2.0, size=60) + 1e6, rng.random(60) < 0.5
    running = running_sample(values, member)
    for i in range(60):
        sample = Sample.of(values[: i + 1][member[: i + 1]])
        assert running.n[i] == sample.n
        assert running.mean[i] == pytest.approx(sample.mean, rel=1e-9, nan_ok=True)
        assert running.variance[i] == pytest.approx(sample.variance, rel=1e-6, nan_ok=True)


def test_all_looks_at_once_equal_one_at_a_time() -> None:
    rng = np.random.default_rng(2)
    values, treated = rng.normal(size=300), rng.random(300) < 0.5
    sequence = ConfidenceSequence(tuned_for=200, burn_in=20)
    before, after = running_sample(values, ~treated), running_sample(values, treated)
    half = sequence.half_width(before, after)
    for i in range(0, 300, 7):
        arms = [Sample.of(values[: i + 1][treated[: i + 1] == arm]) for arm in (False, True)]
        difference = sequence.difference(*arms)
        if not math.isnan(difference.estimate):
            assert difference.upper - difference.estimate == pytest.approx(half[i], rel=1e-9)


def test_the_p_value_is_the_alpha_whose_interval_ends_at_zero() -> None:
    arms = Sample(400, 1.0, 2.0), Sample(500, 1.3, 3.0)
    sequence = ConfidenceSequence(alpha=0.05, tuned_for=1_000)
    p = sequence.difference(*arms).p_value
    m = 900 * sequence.rho_squared
    half = math.sqrt((2 / 400 + 3 / 500) * 2 * (m + 1) / m * math.log(math.sqrt(m + 1) / p))
    assert half == pytest.approx(0.3, rel=1e-9)


def test_it_is_narrowest_where_it_is_tuned_for() -> None:
    arms = Sample(500, 0.0, 1.0), Sample(500, 0.0, 1.0)
    tuned = ConfidenceSequence(tuned_for=1_000).difference(*arms).upper
    widths = [ConfidenceSequence(tuned_for=n).difference(*arms).upper for n in range(100, 10_000, 50)]
    assert tuned <= min(widths) * 1.001
    assert tuned / welch(*arms).upper == pytest.approx(1.55, abs=0.02)


def test_nothing_is_said_during_the_burn_in() -> None:
    difference = ConfidenceSequence(burn_in=50).difference(Sample(49, 0.0, 1.0), Sample(400, 9.0, 1.0))
    assert (difference.lower, difference.upper, difference.p_value) == (-math.inf, math.inf, 1.0)


def test_values_that_never_vary() -> None:
    sequence = ConfidenceSequence()
    assert sequence.difference(Sample(100, 1.0, 0.0), Sample(100, 1.0, 0.0)).p_value == 1.0
    certain = sequence.difference(Sample(100, 1.0, 0.0), Sample(100, 2.0, 0.0))
    assert certain.significant
    assert certain.p_value == 0.0
