"""Logits of many tracks for many sessions, by the vectors, biases and labels of `factors`.

A session is offered thousands of tracks, so this is most of what serving the factors costs.
"""

from __future__ import annotations

from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from botify.core.numba_cache import plain_array, use_own_cache
from botify.streams.learner.models.factors import BIAS

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Numbers = NDArray[np.int32]
Values = NDArray[np.uint16]
Integers = NDArray[np.integer[Any]]


@cache
def loops() -> ModuleType:
    """Return the compiled loops, `scoring_kernels`; importing them loads numba."""
    use_own_cache()
    from botify.streams.learner.models import scoring_kernels

    return scoring_kernels


class TrackScorer:
    """Logits of n tracks, which are named by their places in a table.

    The last dimension of `vectors`, shape (n, d), is the track's bias: that of a taste is 1. `numbers`, shape (labels,
    n), are each track's values of the labels, below 65,536.

    Examples
    --------
    >>> tracks = TrackScorer(np.eye(2, BIAS + 1), np.array([[0, 1]]))
    >>> tastes = tracks.tastes(np.array([[0, 1, 0, 0]]), np.array([[1, 0.5, 0, 0]]), np.array([4]))
    >>> tracks.of_tracks(tastes, np.array([[0, 0.25]]), np.array([0, 0]), np.array([0, 1])).tolist()
    [0.5, 0.5]
    """

    def __init__(self, vectors: Floats, numbers: Integers, run: ModuleType | None = None) -> None:
        self.vectors = plain_array(vectors, np.float32)
        self._numbers = plain_array(numbers.T, np.uint16)
        self._run = run or loops()

    def tastes(self, places: Integers, weights: Floats, lengths: Integers) -> Floats:
        """Return the taste of each of b sessions, z = n**-0.5 · Σ w x as in `taste`, then a 1; shape (b, d).

        Of `places` and `weights`, shape (b, w), as many columns of a row are read as `lengths` says, at least one.
        """
        tastes = np.zeros((len(places), self.vectors.shape[1]), dtype=np.float32)
        of_sessions = plain_array(places, np.int32), plain_array(weights, np.float32), plain_array(lengths, np.int64)
        self._run.sum_tastes(self.vectors, *of_sessions, tastes)
        tastes[:, -1] = 1
        return tastes

    def of_cells(self, tastes: Floats, by_value: Floats, starts: Ints, stops: Ints) -> Floats:
        """Return the logits of the tracks from each start to its stop, shape (b, cells), the first session first.

        `tastes` has shape (b, d); `by_value`, shape (b, values), is what each value of a label is worth to each
        session.
        """
        logits = np.empty(int((stops - starts).sum()), dtype=np.float32)
        of_sessions = plain_array(tastes, np.float32), plain_array(by_value, np.float32)
        cells = plain_array(starts, np.int64), plain_array(stops, np.int64)
        self._run.score_cells(self.vectors, self._numbers, *of_sessions, *cells, logits)
        return logits

    def of_tracks(self, tastes: Floats, by_value: Floats, sessions: Ints, places: Integers) -> Floats:
        """Return the logits of tracks, each for its session, shape (m,) like `sessions` and `places`."""
        logits = np.empty(len(sessions), dtype=np.float32)
        of_sessions = plain_array(tastes, np.float32), plain_array(by_value, np.float32)
        tracks = plain_array(sessions, np.int64), plain_array(places, np.int32)
        self._run.score_tracks(self.vectors, self._numbers, *of_sessions, *tracks, logits)
        return logits

    def best(self, logits: Floats, bounds: Ints) -> tuple[Ints, Ints]:
        """Return where the highest logit of each session is, and how many are above minus infinity, shape (b,).

        `bounds`, shape (b + 1,), are where the logits of each session begin, and the last ones end; no session is
        without.
        """
        best, free = np.zeros(len(bounds) - 1, dtype=np.int64), np.zeros(len(bounds) - 1, dtype=np.int64)
        self._run.find_best(logits, bounds, best, free)
        return best, free


def warm_up() -> None:
    """Compile the loops, or read them from the cache; processes that serve the factors do so before they are ready."""
    tracks = TrackScorer(np.zeros((1, BIAS + 1), dtype=np.float32), np.zeros((1, 1), dtype=np.int64))
    one, nothing = np.ones((1, 1), dtype=np.int64), np.zeros((1, 1), dtype=np.float32)
    tastes = tracks.tastes(one - 1, nothing, one[0])
    tracks.best(tracks.of_cells(tastes, nothing, one - 1, one), np.arange(2))
    tracks.of_tracks(tastes, nothing, one[0] - 1, one[0] - 1)
