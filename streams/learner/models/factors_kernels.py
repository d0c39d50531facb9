"""The loops of `fism`, compiled by numba: it learns one listen after another, and scores tracks for sessions.

Sums are taken in the order that is written, so that no bit depends on the processor or on who compiled them. Scores are
sums of four tracks at a time.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from botify.schemas.track_columns import LABELS, UNKNOWN
from botify.streams.learner.models.factors import (
    ARTIST_RATE,
    BIAS,
    DECAY,
    DIMENSIONS,
    GENRE_RATE,
    INDIFFERENT,
    LEAST_KEPT,
    MATCH_RATE,
    MOST_EARLIER,
    MOST_LISTENS,
    MOST_USER_BIAS,
    RATE,
    REPEAT_RATE,
    SQUARES,
    USER_BIAS_PRIOR,
    Catalogued,
    Learned,
    Listens,
    OpenSessions,
)

_ONE = np.float32(1.0)
_KEPT_RATE, _MATCH_RATE = np.float32(REPEAT_RATE), np.float32(MATCH_RATE)


@njit(cache=True)
def learn(listens: Listens, learned: Learned, of: Catalogued, heard: OpenSessions, expected: np.ndarray) -> int:
    """Learn from listens in order; return how many sessions began.

    `expected`, shape (n,), gets what was expected of each before it was learned from, where there was a session.
    """
    began = 0
    for at in range(len(listens.tracks)):
        user, track = listens.users[at], listens.tracks[at]
        heard.last[user] = listens.first + at
        if heard.lengths[user] == 0 or heard.sessions[user] != listens.sessions[at]:
            heard.sessions[user], heard.lengths[user] = listens.sessions[at], 0
            heard.surprise[user], heard.slope[user] = 0.0, 0.0
            began += 1
        n = heard.lengths[user]
        if n < MOST_LISTENS:
            weight = _ONE  # of the first: nobody recommended it
            if n > 0:
                weight, expected[at] = _learn_listen(user, track, listens.fractions[at], learned, of, heard)
                weight -= np.float32(INDIFFERENT)
                if not listens.served[at]:
                    learned.told[1] += _ONE
                elif listens.fractions[at] < _ONE:
                    learned.told[0] += _ONE
            heard.tracks[user, n], heard.weights[user, n], heard.lengths[user] = track, weight, n + 1
        if listens.ended[at]:
            heard.lengths[user] = 0
    return began


@njit(cache=True)
def _add_parts(track: int, weight: np.float32, learned: Learned, of: Catalogued, sums: np.ndarray) -> None:
    own, artist, genre = learned.tracks[track], learned.artists[of.artist[track]], learned.genres[of.genre[track]]
    for column in range(SQUARES):
        sums[column] += weight * (own[column] + artist[column] + genre[column])


@njit(cache=True)
def _sigma(logit: np.float32) -> np.float32:
    return np.float32(1.0 / (1.0 + math.exp(-np.float64(logit))))


@njit(cache=True)
def _mean_square(slope: np.ndarray) -> np.float32:
    # not in the loops that compute the slope: those run in vector registers
    total = np.float32(0.0)
    for column in range(SQUARES):
        total += slope[column] * slope[column]
    return total / np.float32(SQUARES)


@njit(cache=True)
def _learn_listen(
    user: int, track: int, fraction: np.float32, learned: Learned, of: Catalogued, heard: OpenSessions
) -> tuple[np.float32, np.float32]:
    """Take one step for a listen that is not its session's first; return how much it was liked, and the prediction."""
    n = heard.lengths[user]
    root, artist = np.float32(1.0 / math.sqrt(n)), of.artist[track]
    vectors = np.zeros((3, SQUARES), dtype=np.float32)
    target, taste, slope = vectors[0], vectors[1], vectors[2]
    _add_parts(track, _ONE, learned, of, target)
    matches, earlier = np.zeros(len(LABELS), dtype=np.float32), 0
    for at in range(n):
        other, weight = heard.tracks[user, at], root * heard.weights[user, at]
        if other < 0:  # forgotten
            continue
        _add_parts(other, weight, learned, of, taste)
        earlier += of.artist[other] == artist
        for label in range(len(LABELS)):
            value = of.labels[track, label]
            if value != UNKNOWN and of.labels[other, label] == value:
                matches[label] += weight
    earlier = min(earlier, MOST_EARLIER)
    taste[BIAS] = 1.0
    logit = np.float32(0.0)
    for column in range(SQUARES):
        logit += taste[column] * target[column]
    for label in range(len(LABELS)):
        logit += matches[label] * learned.matches[label, 0]
    bias = heard.surprise[user] / (heard.slope[user] + np.float32(USER_BIAS_PRIOR))
    predicted = _sigma(logit + min(max(bias, np.float32(-MOST_USER_BIAS)), np.float32(MOST_USER_BIAS)))
    kept = learned.kept[earlier, 0]
    liking = min(fraction / kept, _ONE)
    expected: np.float32 = kept * predicted
    error, without_bias = kept * (predicted - liking), _sigma(logit)
    heard.surprise[user] += kept * (liking - without_bias)
    heard.slope[user] += kept * without_bias * (_ONE - without_bias)
    # a vector takes part twice: as the target ...
    for column in range(SQUARES):
        slope[column] = error * taste[column] + np.float32(DECAY) * target[column]
    _descend(track, slope, _ONE, _mean_square(slope), learned, of)
    # ... and in the taste before every later listen
    for column in range(DIMENSIONS):
        slope[column] = error * root * target[column]
    slope[BIAS] = 0.0
    squares = _mean_square(slope)
    for at in range(n):
        if heard.tracks[user, at] >= 0:
            _descend(heard.tracks[user, at], slope, heard.weights[user, at], squares, learned, of)
    if earlier > 0:
        _descend_one(learned.kept[earlier], error * predicted, _KEPT_RATE)
        learned.kept[earlier, 0] = min(max(learned.kept[earlier, 0], np.float32(LEAST_KEPT)), _ONE)
    for label in range(len(LABELS)):
        _descend_one(learned.matches[label], error * matches[label], _MATCH_RATE)
    liked: np.float32 = liking
    return liked, expected


@njit(cache=True)
def _descend(
    track: int, slope: np.ndarray, weight: np.float32, squares: np.float32, learned: Learned, of: Catalogued
) -> None:
    """Move a track's three parts down the slope times a weight; `squares` is the mean of the slope's squares."""
    squares *= weight * weight
    _move(learned.tracks[track], slope, np.float32(RATE) * weight, squares)
    _move(learned.artists[of.artist[track]], slope, np.float32(ARTIST_RATE) * weight, squares)
    _move(learned.genres[of.genre[track]], slope, np.float32(GENRE_RATE) * weight, squares)


@njit(cache=True)
def _move(row: np.ndarray, slope: np.ndarray, rate: np.float32, squares: np.float32) -> None:
    row[SQUARES] += squares
    step = rate / np.sqrt(row[SQUARES])
    for column in range(SQUARES):
        row[column] -= step * slope[column]


@njit(cache=True)
def _descend_one(number: np.ndarray, slope: np.float32, rate: np.float32) -> None:
    """Move a number that has its sum of squares beside it."""
    number[1] += slope * slope
    number[0] -= rate * slope / np.sqrt(number[1])


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
