"""Tests that stay valid under repeated looks, one-sided: how many standard errors an estimate must be from zero.

All are asymptotic and need the same: each user counts once, with a final value.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from botify.analytics.statistics import ConfidenceSequence

Floats = NDArray[np.float64]
BURN_IN = 50  # users that each sample needs before it is looked at: the theory is asymptotic


def mixture_bound(users: ArrayLike, alpha: float, tuned_for: int) -> Floats:
    """Return the bound of a one-sided confidence sequence, in standard errors; there is no last look.

    Robbins' mixture over a half-normal prior: sqrt(2 (m + 1) / m · log(1 + sqrt(m + 1) / (2 α))) with m = n ρ²
    (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, Annals of Statistics 52, 2024, one-sided form). It is the
    two-sided bound at 2 α but for the 1: 8 % closer to zero than the two-sided one at α = 0.05. `tuned_for` is the
    number of users at which it is lowest.
    """
    m = np.asarray(users, dtype=np.float64) * ConfidenceSequence(min(2 * alpha, 0.5), tuned_for).rho_squared
    with np.errstate(divide="ignore"):
        bound: Floats = np.sqrt(2 * (m + 1) / m * np.log1p(np.sqrt(m + 1) / (2 * alpha)))
    return bound


def horizon_bound(users: ArrayLike, alpha: float, horizon: int) -> Floats:
    """Return the bound of a one-sided sequence that ends with a planned number of users, in standard errors.

    Up to `horizon` users the sum of standardised values is a Brownian motion W on [0, 1], and by the reflection
    principle P(max W ≥ c) = 2 (1 − Φ(c)). So c = Φ⁻¹(1 − α / 2), divided by sqrt(n / horizon), may be looked at after
    each user: the continuous form of O'Brien and Fleming's bound (Biometrics 35, 1979; Lan and DeMets, Biometrika 70,
    1983). It is 1.96 at the end for α = 0.05, where the mixture without an end has 2.8, and high at the beginning. It
    says nothing after the horizon: only the first `horizon` users may be compared.
    """
    c = float(stats.norm.isf(alpha / 2))
    with np.errstate(divide="ignore"):
        bound: Floats = c * np.sqrt(horizon / np.asarray(users, dtype=np.float64))
    return bound


def horizon_power(shift: float, alpha: float) -> float:
    """Return the probability that the bound of `horizon_bound` is crossed at any look.

    P(max of W(t) + θ t ≥ c) = Φ(θ − c) + exp(2 θ c) Φ(−c − θ) (Siegmund, "Sequential Analysis", 1985), where `shift` is
    θ: the true difference in standard errors at the horizon.
    """
    c = float(stats.norm.isf(alpha / 2))
    log_reflected = 2 * shift * c + float(stats.norm.logcdf(-c - shift))
    return float(stats.norm.cdf(shift - c)) + float(np.exp(log_reflected))


def split_p_value(observed: ArrayLike, expected_shares: ArrayLike, strength: float = 100.0) -> float:
    """Return an always-valid p-value of a split: the sample-ratio check for an experiment that is looked at often.

    The inverse Bayes factor of a Dirichlet prior around the declared shares (Lindon and Malek, "Anytime-valid inference
    for multinomial count data", NeurIPS 2022); the higher its `strength`, the smaller the deviations that it is tuned
    for.
    """
    n = np.asarray(observed, dtype=np.float64)
    shares = np.asarray(expected_shares, dtype=np.float64)
    prior = strength * shares / shares.sum()
    log_factor = (
        special.gammaln(strength)
        - special.gammaln(strength + n.sum())
        + float(np.sum(special.gammaln(prior + n) - special.gammaln(prior) - n * np.log(shares / shares.sum())))
    )
    return float(np.exp(min(-log_factor, 0.0)))
