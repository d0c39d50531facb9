"""What `next_track` learns by gradients, compiled: vectors of items, and the stacker's weights.

*Vectors* say what is played next, against what others played of late. A history is the sum of the vectors of its last
liked items, the newest with the most weight. Its product with the other vector of an item says how well that would
follow. One step an event of the softmax over the item that was played and `NEGATIVES` items of recent events, as in
word2vec (Mikolov et al., NIPS 2013), with a rate of Adagrad for each row.

The *stacker* makes scores of features; it takes one step of Adagrad a request that it learns from.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from botify.core.keyed_random import GOLDEN, finalise
from botify.streams.learner.models.next_track_state import (
    ADAGRAD_START,
    ADAGRAD_START_HIDDEN,
    BIAS,
    CONTEXT,
    DIMENSIONS,
    DRAWN_FROM,
    FEATURES,
    HIDDEN,
    LEAK,
    LEAST_VARIANCE,
    LEAST_VARIANCE_OF_QUIET,
    NEGATIVES,
    NEGLIGIBLE,
    QUIET,
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
def sum_history(state: State, known: int, weights: np.ndarray, scratch: Scratch) -> int:
    """Write the sum of the vectors of the last liked items, one for each weight; return how many there are."""
    history, used = scratch.history, 0
    history[:] = 0.0
    for at in range(known):
        if scratch.values[at] > 0:
            weight = weights[used] * scratch.values[at]
            vector = state.inputs[scratch.items[at]]
            for column in range(DIMENSIONS):
                history[column] += weight * vector[column]
            used += 1
            if used == len(weights):
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
    used = sum_history(state, known, cells.ranks, scratch)
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
            if used == len(cells.ranks):
                break


@njit(cache=True)
def context_of(known: int) -> np.float32:
    """Return what the hidden units see of the history's length."""
    return np.float32(0.5 * math.log(known + 1.0) - 1.0)


@njit(cache=True)
def group_of(known: int) -> int:
    """Return which weights of its own a history of this length has."""
    if known < 6:
        return 1
    if known < 15:
        return 2
    return 3 if known < 40 else 4


@njit(cache=True)
def score(state: State, known: int, found: int, scratch: Scratch) -> None:
    """Standardise the features in place, and compute the scores: a linear part and hidden units."""
    group, context = group_of(known), context_of(known)
    features, scores, units = scratch.features, scratch.scores, scratch.units
    scores[:found] = 0.0
    for feature in range(FEATURES):
        weight = np.float32(state.stacker[0, feature] + state.stacker[group, feature])
        mean, scale = np.float32(state.scales[3, feature]), np.float32(1.0 / state.scales[0, feature])
        row = features[feature]
        for place in range(found):
            row[place] = (row[place] - mean) * scale
            scores[place] += weight * row[place]
    for column in range(HIDDEN):
        unit = units[column]
        first = state.hidden[BIAS, column] + context * state.hidden[CONTEXT, column]
        for place in range(found):
            unit[place] = first
        for feature in range(FEATURES):
            weight = state.hidden[feature, column]
            row = features[feature]
            for place in range(found):
                unit[place] += weight * row[place]
        weight = state.output[column]
        for place in range(found):
            unit[place] = max(unit[place], np.float32(LEAK) * unit[place])
            scores[place] += weight * unit[place]


@njit(cache=True)
def rescale(state: State, found: int, scratch: Scratch) -> None:
    """Follow each feature's mean, and its standard deviation within a request."""
    state.scales[1, 0] += 1.0
    rate = max(1.0 / (state.scales[1, 0] + 10.0), 1e-4)
    for feature in range(FEATURES):
        total, squares = 0.0, 0.0
        for place in range(found):
            one = float(scratch.features[feature, place])
            total += one
            squares += one * one
        least = LEAST_VARIANCE_OF_QUIET if feature in QUIET else LEAST_VARIANCE
        variance = max(squares / found - (total / found) ** 2, least)
        state.scales[2, feature] += rate * (variance - state.scales[2, feature])
        state.scales[3, feature] += rate * (total / found - state.scales[3, feature])
        state.scales[0, feature] = math.sqrt(state.scales[2, feature])


@njit(cache=True)
def errors(target: int, found: int, weight: float, scratch: Scratch) -> None:
    """Compute the gradient of the loss by the scores: the softmax, less 1 at the target."""
    best = np.float32(-np.inf)
    for place in range(found):
        best = max(best, scratch.scores[place])
    total = 0.0
    for place in range(found):
        scratch.errors[place] = math.exp(float(scratch.scores[place] - best))
        total += scratch.errors[place]
    for place in range(found):
        scratch.errors[place] *= weight / total
    scratch.errors[target] -= weight


@njit(cache=True)
def step(state: State, group: int, found: int, rate: float, scratch: Scratch) -> None:
    """Move the shared linear weights and those of the group."""
    for feature in range(FEATURES):
        slope = 0.0
        row = scratch.features[feature]
        for place in range(found):
            slope += scratch.errors[place] * row[place]
        for part in (0, group):
            state.squares[part, feature] += slope * slope
            state.stacker[part, feature] -= rate * slope / math.sqrt(ADAGRAD_START + state.squares[part, feature])


@njit(cache=True)
def step_hidden(state: State, context: np.float32, found: int, rate: np.float32, scratch: Scratch) -> None:
    """Move the hidden units by backpropagation."""
    slopes, features = scratch.slopes, scratch.features
    slopes[:] = 0.0
    output, inward = np.zeros(HIDDEN, dtype=np.float32), np.zeros(HIDDEN, dtype=np.float32)
    for place in range(found):
        error = np.float32(scratch.errors[place])
        if abs(error) < NEGLIGIBLE:
            continue
        for column in range(HIDDEN):
            unit = scratch.units[column, place]
            output[column] += error * unit
            inward[column] = error * state.output[column] * (np.float32(1.0) if unit > 0 else np.float32(LEAK))
            slopes[BIAS, column] += inward[column]
        for feature in range(FEATURES):
            value = features[feature, place]
            for column in range(HIDDEN):
                slopes[feature, column] += value * inward[column]
    for column in range(HIDDEN):
        slopes[CONTEXT, column] = context * slopes[BIAS, column]
        state.output_squares[column] += output[column] * output[column]
        scale = np.sqrt(np.float32(ADAGRAD_START_HIDDEN) + state.output_squares[column])
        state.output[column] -= rate * output[column] / scale
    for row in range(FEATURES + 2):
        for column in range(HIDDEN):
            state.hidden_squares[row, column] += slopes[row, column] * slopes[row, column]
            scale = np.sqrt(np.float32(ADAGRAD_START_HIDDEN) + state.hidden_squares[row, column])
            state.hidden[row, column] -= rate * slopes[row, column] / scale
