"""Invariant: looked at after every user, a bound is exceeded without an effect with a probability of alpha at most."""

from __future__ import annotations

import numpy as np
import pytest

from botify.analytics.sequential import horizon_bound, horizon_power, mixture_bound, split_p_value
from botify.analytics.statistics import ALARM

ALPHA, USERS, RUNS = 0.05, 1_000, 4_000
LOOKS = np.arange(50, USERS + 1)


def walks(drift: float = 0.0) -> np.ndarray:
    """Return standardised sums after each user, with a true effect of `drift` standard errors at the end."""
    rng = np.random.default_rng(5)
    values = rng.standard_exponential((RUNS, USERS)) - 1.0 + drift / np.sqrt(USERS)  # skewed, as times are
    return values.cumsum(axis=1)[:, LOOKS - 1] / np.sqrt(LOOKS)


@pytest.mark.parametrize(
    "bound", [mixture_bound(LOOKS, ALPHA, 300), horizon_bound(LOOKS, ALPHA, USERS)], ids=["mixture", "horizon"]
)
def test_all_looks_together_are_wrong_with_a_probability_of_alpha_at_most(bound: np.ndarray) -> None:
    wrong = (walks() >= bound).any(axis=1).mean()
    assert wrong < ALPHA + 3 * np.sqrt(ALPHA * (1 - ALPHA) / RUNS)
    # a fixed-horizon test that is looked at as often is wrong several times as often
    assert (walks() >= 1.645).any(axis=1).mean() > 3 * ALPHA


def test_the_horizon_uses_up_alpha_and_has_the_power_of_its_formula() -> None:
    bound = horizon_bound(LOOKS, ALPHA, USERS)
    assert (walks() >= bound).any(axis=1).mean() > 0.6 * ALPHA
    assert (walks(2.6) >= bound).any(axis=1).mean() == pytest.approx(horizon_power(2.6, ALPHA), abs=0.03)


def test_a_split_is_looked_at_after_every_user() -> None:
    rng = np.random.default_rng(3)
    looks = np.arange(100, 4_000, 100)

    def alarms(share: float) -> float:
        treated = rng.random((300, 4_000)).__lt__(share).cumsum(axis=1)[:, looks - 1]
        return float(
            np.mean(
                [
                    any(split_p_value([n - t, t], [1, 1]) < ALARM for n, t in zip(looks, row, strict=True))
                    for row in treated
                ]
            )
        )

    assert alarms(0.5) < 0.01
    assert alarms(0.57) > 0.9
