"""How long listeners stay: budgets and biases that give sessions the lengths of a log."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from botify.sim.simulation import MOST_TRACKS

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


QUANTILES = np.linspace(0.01, 0.99, 25)


def length_quantiles(lengths: Ints) -> Floats:
    """Return 25 quantiles of the lengths of sessions, in tracks, from the first to the ninety-ninth percentile."""
    found: Floats = np.quantile(lengths, QUANTILES)
    return found


MOST_BUDGET = 5
"""Botify's budget, of listeners who stay long enough."""
_SHORTEST, _LONGEST = 2.0, 0.8 * MOST_TRACKS
_CHOICES, _STEPS, _BLOCK = 48, 40, 256


def draw_lengths(quantiles: Floats, users: int, rng: np.random.Generator) -> Floats:
    """Draw the median length of each listener's sessions, in tracks, between the quantiles of a log."""
    logs = np.interp(rng.random(users), QUANTILES, np.log(quantiles))
    return np.clip(np.exp(logs), _SHORTEST, _LONGEST)


def budgets_of(lengths: Floats) -> tuple[NDArray[np.int32], Floats]:
    """Return budgets, and the mean fractions of tracks that have to be heard for sessions of these median lengths.

    A session has its first track and then ``budget / (1 − fraction)`` more on average. Their number is negative
    binomial, with a median that is below the mean by about its share ``1 / (3 · budget)``.

    Examples
    --------
    >>> [part.round(2).tolist() for part in budgets_of(np.array([2.0, 11.0, 101.0]))]
    [[1, 3, 5], [0.33, 0.73, 0.95]]
    """
    budgets = np.clip(np.round((lengths - 1) / 3), 1, MOST_BUDGET)
    means = (lengths - 1) / (1 - 1 / (3 * budgets))
    return budgets.astype(np.int32), 1 - budgets / means


def own_choices(
    embeddings: NDArray[np.float32], tastes: NDArray[np.float32], heard: Floats, rng: np.random.Generator
) -> Floats:
    """Return what listeners think of tracks of their own choice, from the first to the last, shape (users, choices).

    Logits with Gumbel noise, in descending order, are choices without repetition.

    Parameters
    ----------
    embeddings : ndarray, shape (tracks, dimensions)
    tastes : ndarray, shape (users, dimensions)
    heard : ndarray, shape (users,)
        Number of tracks that each listener chooses.
    """
    scores = np.empty((len(tastes), _CHOICES))
    most = np.minimum(heard, len(embeddings)) - 1
    places = np.round(np.linspace(0, most, _CHOICES, axis=1)).astype(np.int64)
    for start in range(0, len(tastes), _BLOCK):
        rows = slice(start, start + _BLOCK)
        logits = tastes[rows] @ embeddings.T
        noisy = logits + rng.gumbel(size=logits.shape)
        order = np.argsort(-noisy, axis=1)
        scores[rows] = np.take_along_axis(logits, np.take_along_axis(order, places[rows], axis=1), axis=1)
    return scores


def biases_of(scores: Floats, sharpness: Floats, fractions: Floats) -> Floats:
    """Return the biases with which the mean fraction that is heard of tracks with these scores is as wanted."""
    low, high = scores.min(axis=1) - 20.0, scores.max(axis=1) + 20.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        heard = expit((scores - middle[:, None]) * sharpness[:, None]).mean(axis=1)
        low, high = np.where(heard > fractions, middle, low), np.where(heard > fractions, high, middle)
    biases: Floats = (low + high) / 2
    return biases
