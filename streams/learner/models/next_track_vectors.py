"""Vectors of items, learned online: what is played next, against what others played of late.

A history is the sum of the vectors of its last liked items, the newest with the most weight. Its product with the
other vector of an item says how well that would follow. One step an event of the softmax over the item that was played
and `NEGATIVES` items of recent events, as in word2vec (Mikolov et al., NIPS 2013), with a rate of Adagrad for each row.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from botify.core.keyed_random import GOLDEN, finalise
from botify.streams.learner.models.next_track_state import (
    DIMENSIONS,
    DRAWN_FROM,
    NEGATIVES,
    VECTOR_ITEMS,
    VECTOR_START,
    Cells,
    Scratch,
    State,
)


@njit(cache=True)
def dot(left: np.ndarray, right: np.ndarray) -> np.float32:
    """Return the product of two vectors; eight sums, always the same ones, so that the loop vectorises."""
    a = b = c = d = e = f = g = h = np.float32(0.0)
    for at in range(0, DIMENSIONS, 8):
        one = np.uint64(at)
        a += left[one] * right[one]
        b += left[one + np.uint64(1)] * right[one + np.uint64(1)]
        c += left[one + np.uint64(2)] * right[one + np.uint64(2)]
        d += left[one + np.uint64(3)] * right[one + np.uint64(3)]
        e += left[one + np.uint64(4)] * right[one + np.uint64(4)]
        f += left[one + np.uint64(5)] * right[one + np.uint64(5)]
        g += left[one + np.uint64(6)] * right[one + np.uint64(6)]
        h += left[one + np.uint64(7)] * right[one + np.uint64(7)]
    return ((a + b) + (c + d)) + ((e + f) + (g + h))


@njit(cache=True)
def sum_history(state: State, known: int, cells: Cells, scratch: Scratch) -> int:
    """Write the vector of the history; return how many of its items count."""
    history, used = scratch.history, 0
    history[:] = 0.0
    for at in range(known):
        if scratch.values[at] > 0:
            weight = cells.ranks[used] * scratch.values[at]
            vector = state.inputs[scratch.items[at]]
            for column in range(DIMENSIONS):
                history[column] += weight * vector[column]
            used += 1
            if used == VECTOR_ITEMS:
                break
    return used


_mixed: Any = njit(cache=True)(finalise)


@njit(cache=True)
def _draw(state: State, item: int, cells: Cells, scratch: Scratch) -> int:
    """Write the item and others that were played of late; return how many there are."""
    event, size, found = state.clock[0], len(state.ring_items), 1
    scratch.drawn[0] = item
    recent = np.uint64(min(event, size, DRAWN_FROM))
    if recent == 0:
        return 1
    key = _mixed(np.uint64(cells.seed) + np.uint64(event) * GOLDEN)
    for at in range(NEGATIVES):
        back = np.int64(_mixed(key + np.uint64(at)) % recent)
        other = state.ring_items[(event - 1 - back) % size]
        if other >= 0 and other != item:
            scratch.drawn[found] = other
            found += 1
    return found


@njit(cache=True)
def learn_vectors(state: State, item: int, value: np.float32, known: int, cells: Cells, scratch: Scratch) -> None:
    """Take one step towards the item that was played."""
    used = sum_history(state, known, cells, scratch)
    found = _draw(state, item, cells, scratch)
    if not used or found == 1:
        return
    history, slope, errors, drawn = scratch.history, scratch.slope, scratch.drawn_errors, scratch.drawn
    best = np.float32(-np.inf)
    for at in range(found):
        errors[at] = dot(history, state.outputs[drawn[at]])
        best = max(best, errors[at])
    total = np.float32(0.0)
    for at in range(found):
        errors[at] = np.float32(math.exp(errors[at] - best))
        total += errors[at]
    scale = min(value, np.float32(1.0)) / total
    for at in range(found):
        errors[at] *= scale
    errors[0] -= min(value, np.float32(1.0))
    length = dot(history, history) / np.float32(DIMENSIONS)
    rate, start = np.float32(cells.vector_rate), np.float32(VECTOR_START)
    slope[:] = 0.0
    for at in range(found):
        error, vector = errors[at], state.outputs[drawn[at]]
        for column in range(DIMENSIONS):
            slope[column] += error * vector[column]
    for at in range(found):
        row, error = drawn[at], errors[at]
        vector = state.outputs[row]
        state.vector_squares[row, 1] += error * error * length
        step = rate * error / np.sqrt(start + state.vector_squares[row, 1])
        for column in range(DIMENSIONS):
            vector[column] -= step * history[column]
    length = dot(slope, slope) / np.float32(DIMENSIONS)
    used = 0
    for at in range(known):
        if scratch.values[at] > 0:
            row, weight = scratch.items[at], cells.ranks[used] * scratch.values[at]
            state.vector_squares[row, 0] += weight * weight * length
            step = rate * weight / np.sqrt(start + state.vector_squares[row, 0])
            vector = state.inputs[row]
            for column in range(DIMENSIONS):
                vector[column] -= step * slope[column]
            used += 1
            if used == VECTOR_ITEMS:
                break
