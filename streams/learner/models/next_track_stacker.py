"""The stacker of `next_track`, compiled: scores from features, and one step of Adagrad."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from botify.streams.learner.models.next_track_state import (
    ADAGRAD_START,
    ADAGRAD_START_HIDDEN,
    BIAS,
    CONTEXT,
    FEATURES,
    HIDDEN,
    LEAK,
    LEAST_VARIANCE,
    LEAST_VARIANCE_OF_QUIET,
    NEGLIGIBLE,
    QUIET,
    Scratch,
    State,
)


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
