"""What `next_track` does to stay within its bounds, and its popular items; all between two chunks of events."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from botify.streams.learner.models.next_track_state import POOL, WAYS, WIDE, Ints, Rows, State

ROWS = 4096
"""Rows that are narrowed together, so that this needs little memory."""


def narrowed(state: State, used: int) -> State:
    """Return the state with half as many neighbours an item, the heaviest of each two sets that become one.

    Parameters
    ----------
    used : int
        Rows with an item or room for one that was forgotten.
    """
    rows, width = state.neighbours.shape
    neighbours = np.full((rows, width // 2), -1, dtype=np.int32)
    weights = np.zeros((rows, width // 2, 3), dtype=np.float32)
    # a set has the neighbours of one remainder by the number of sets, so sets s and s + n / 2 become set s
    sets = width // WAYS // 2
    for begin in range(0, used, ROWS):
        part = slice(begin, min(begin + ROWS, used))
        names = _in_one(state.neighbours[part].reshape(-1, 2, sets, WAYS))
        values = _in_one(state.weights[part].reshape(-1, 2, sets, WAYS, 3))
        heaviest = np.argsort(np.where(names >= 0, -values[..., WIDE], np.inf), axis=2, kind="stable")[:, :, :WAYS]
        neighbours[part] = np.take_along_axis(names, heaviest, axis=2).reshape(len(names), -1)
        weights[part] = np.take_along_axis(values, heaviest[..., None], axis=2).reshape(len(names), -1, 3)
    return state._replace(neighbours=neighbours, weights=weights)


def _in_one(sets: NDArray[Any]) -> NDArray[Any]:
    """Return two halves of sets, shape (n, 2, sets, WAYS, ...), as sets of twice the size."""
    n, _, count, ways, *rest = sets.shape
    return np.moveaxis(sets, 1, 2).reshape(n, count, 2 * ways, *rest)


def all_but(worth: NDArray[Any], kept: int) -> NDArray[np.bool_]:
    """Mark all rows but those worth most; of equals the earlier one stays."""
    left: NDArray[np.bool_] = np.ones(len(worth), dtype=np.bool_)
    left[np.argsort(-worth, kind="stable")[:kept]] = False
    return left


def popular(plays: NDArray[np.float64], recent: NDArray[np.float64]) -> Rows:
    """Return the most popular items, then those popular of late that are not among them."""
    chosen: list[int] = []
    for worth in (plays, recent):
        best = np.argsort(-worth, kind="stable") if len(worth) <= POOL else _best(worth, POOL)
        chosen += [row for row in best.tolist() if worth[row] > 0]
    return np.array(list(dict.fromkeys(chosen)), dtype=np.int32)


def _best(worth: NDArray[np.float64], n: int) -> Ints:
    """Return the n best, best first; of equals the earlier one."""
    threshold = np.partition(worth, len(worth) - n)[len(worth) - n]
    rows = np.flatnonzero(worth >= threshold)
    return rows[np.argsort(-worth[rows], kind="stable")][:n]
