"""The loops of `scoring`, compiled by numba; tests have the same functions as array operations.

Sums are taken one by one, of four tracks at a time, so that no bit depends on the processor or on who compiled them.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from botify.streams.learner.models.factors import BIAS


@njit(cache=True)
def _product(taste: np.ndarray, vector: np.ndarray) -> np.float32:
    product: np.float32 = vector[BIAS]
    for at in range(BIAS):
        product += taste[at] * vector[at]
    return product


@njit(cache=True)
def _four_products(tastes: tuple[np.ndarray, ...], vectors: tuple[np.ndarray, ...]) -> tuple[np.float32, ...]:
    """Return four products in the time of one: their sums do not wait for each other."""
    taste_1, taste_2, taste_3, taste_4 = tastes
    vector_1, vector_2, vector_3, vector_4 = vectors
    first, second, third, fourth = vector_1[BIAS], vector_2[BIAS], vector_3[BIAS], vector_4[BIAS]
    for at in range(BIAS):
        first += taste_1[at] * vector_1[at]
        second += taste_2[at] * vector_2[at]
        third += taste_3[at] * vector_3[at]
        fourth += taste_4[at] * vector_4[at]
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
            for one in range(0, len(of_cell) - 3, 4):
                place = start + one
                of_cell[one], of_cell[one + 1], of_cell[one + 2], of_cell[one + 3] = _four_products(
                    (taste, taste, taste, taste),
                    (vectors[place], vectors[place + 1], vectors[place + 2], vectors[place + 3]),
                )
            for one in range(len(of_cell) // 4 * 4, len(of_cell)):
                of_cell[one] = _product(taste, vectors[start + one])
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
    for at in range(0, len(sessions) - 3, 4):
        whose, where = sessions[at : at + 4], places[at : at + 4]
        logits[at], logits[at + 1], logits[at + 2], logits[at + 3] = _four_products(
            (tastes[whose[0]], tastes[whose[1]], tastes[whose[2]], tastes[whose[3]]),
            (vectors[where[0]], vectors[where[1]], vectors[where[2]], vectors[where[3]]),
        )
    for at in range(len(sessions) // 4 * 4, len(sessions)):
        logits[at] = _product(tastes[sessions[at]], vectors[places[at]])
    for at in range(len(sessions)):
        logit = logits[at]
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


@njit(cache=True)
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
