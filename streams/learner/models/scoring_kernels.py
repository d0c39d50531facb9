"""The loops of `scoring`, compiled by numba; tests have the same functions as array operations.

A sum may be taken in another order than numpy's, so that it runs in vector registers: the last bits may differ.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from botify.streams.learner.models.factors import BIAS

_ANY_ORDER = {"reassoc", "nsz", "contract"}


@njit(cache=True, fastmath=_ANY_ORDER)
def _product(taste: np.ndarray, vectors: np.ndarray, place: int) -> np.float32:
    product: np.float32 = vectors[place, BIAS]
    for at in range(BIAS):
        product += taste[at] * vectors[place, at]
    return product


@njit(cache=True, fastmath=_ANY_ORDER)
def _four_products(taste: np.ndarray, vectors: np.ndarray, place: int) -> tuple[np.float32, ...]:
    """Return the products of four neighbours, in a quarter of the time: their sums do not wait for each other."""
    first, second, third, fourth = (
        vectors[place, BIAS],
        vectors[place + 1, BIAS],
        vectors[place + 2, BIAS],
        vectors[place + 3, BIAS],
    )
    for at in range(BIAS):
        first += taste[at] * vectors[place, at]
        second += taste[at] * vectors[place + 1, at]
        third += taste[at] * vectors[place + 2, at]
        fourth += taste[at] * vectors[place + 3, at]
    return first, second, third, fourth


@njit(cache=True)
def score_cells(
    vectors: np.ndarray,
    numbers: np.ndarray,
    tastes: np.ndarray,
    by_value: np.ndarray,
    starts: np.ndarray,
    stops: np.ndarray,
    logits: np.ndarray,
) -> None:
    """Write the logits of all tracks of the cells of each session, one after another."""
    end = 0
    for session in range(len(starts)):
        taste, worth = tastes[session], by_value[session]
        for cell in range(starts.shape[1]):
            start, stop = starts[session, cell], stops[session, cell]
            at, end = end, end + stop - start
            of_cell = logits[at:end]
            for four in range(0, len(of_cell) - 3, 4):
                of_cell[four], of_cell[four + 1], of_cell[four + 2], of_cell[four + 3] = _four_products(
                    taste, vectors, start + four
                )
            for one in range(len(of_cell) // 4 * 4, len(of_cell)):
                of_cell[one] = _product(taste, vectors, start + one)
            for one in range(len(of_cell)):
                logit = of_cell[one]
                for label in range(numbers.shape[1]):
                    logit += worth[numbers[start + one, label]]
                of_cell[one] = logit


@njit(cache=True)
def score_tracks(
    vectors: np.ndarray,
    numbers: np.ndarray,
    tastes: np.ndarray,
    by_value: np.ndarray,
    sessions: np.ndarray,
    places: np.ndarray,
    logits: np.ndarray,
) -> None:
    """Write the logits of tracks, each for its session."""
    for at in range(len(sessions)):
        logit = _product(tastes[sessions[at]], vectors, places[at])
        for label in range(numbers.shape[1]):
            logit += by_value[sessions[at], numbers[places[at], label]]
        logits[at] = logit


@njit(cache=True)
def find_best(logits: np.ndarray, bounds: np.ndarray, best: np.ndarray, free: np.ndarray) -> None:
    """Write where each session's highest logit is, and how many of its logits are above minus infinity."""
    for session in range(len(best)):
        highest, found = -math.inf, bounds[session]
        for at in range(bounds[session], bounds[session + 1]):
            if logits[at] > highest:
                highest, found = logits[at], at
            free[session] += logits[at] > -math.inf
        best[session] = found


@njit(cache=True, fastmath=_ANY_ORDER)
def sum_tastes(
    vectors: np.ndarray, places: np.ndarray, weights: np.ndarray, lengths: np.ndarray, tastes: np.ndarray
) -> None:
    """Write the sum of each session's vectors times their weights, over the root of its length."""
    for session in range(len(tastes)):
        taste = tastes[session]
        for column in range(lengths[session]):
            place, weight = places[session, column], weights[session, column]
            for at in range(BIAS):
                taste[at] += weight * vectors[place, at]
        root = np.float32(math.sqrt(lengths[session]))
        for at in range(BIAS):
            taste[at] /= root
