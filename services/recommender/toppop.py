"""`toppop`: one of the most popular tracks, drawn uniformly (Botify's `TopPop`, on the live, decayed popularity).

The top is read from Redis once a second.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from botify.core.keyed_random import integers
from botify.services.recommender.protocol import Answers, Batch, RandomStream, Ranking, no_answers, no_ranking
from botify.streams.read import StateReader
from botify.streams.store.connect import REDIS_ERRORS


class TopPop:
    """One of the most popular tracks, drawn uniformly.

    Parameters
    ----------
    top : callable returning ndarray of int64
        The current top tracks; empty before the first listen.
    longer_top : callable of int, optional
        Returns so many of the top tracks, as they are now; default: no more than `top` has.

    Examples
    --------
    >>> TopPop(lambda: np.array([5])).recommend(Batch.of([], [])).tracks.tolist()
    []
    """

    name = "toppop"
    fallback: str | None = "random"

    def __init__(
        self, top: Callable[[], NDArray[np.int64]], longer_top: Callable[[int], NDArray[np.int64]] | None = None
    ) -> None:
        self._top = top
        self._longer_top = longer_top or (lambda k: top()[:k])

    def recommend(self, batch: Batch) -> Answers:
        """Draw one of the top for each request."""
        top, size = self._top(), len(batch)
        if len(top) == 0:
            return no_answers(size)
        drawn = top[integers(batch.keys, RandomStream.TOPPOP, len(top))]
        return Answers(drawn, np.full(size, 1.0 / len(top)), np.full(size, len(top)))

    def rank(self, batch: Batch, k: int) -> Ranking:
        """Return the top in its order, the same for each request."""
        ranking, top = no_ranking(len(batch), k), self._longer_top(k)
        ranking.tracks[:, : len(top)] = top
        ranking.scores[:, : len(top)] = -np.arange(len(top))
        return ranking


REFRESH_S = 1.0


class PopularTracks:
    """The most popular tracks for one half-life, at most `REFRESH_S` old.

    Parameters
    ----------
    clock : callable
        Monotonic seconds.
    """

    def __init__(
        self, reader: StateReader, clock: Callable[[], float], half_life: str = "1d", count: int = 100
    ) -> None:
        self._reader = reader
        self._clock = clock
        self._half_life = half_life
        self._count = count
        self._top = np.empty(0, dtype=np.int64)
        self._read_at = -math.inf

    def __call__(self) -> NDArray[np.int64]:
        """Return the top tracks, best first; empty before the first listen."""
        now = self._clock()
        if now - self._read_at >= REFRESH_S:
            with contextlib.suppress(*REDIS_ERRORS):  # the previous top serves until Redis answers
                self._top = self._reader.top_tracks(self._half_life, self._count).tracks
            self._read_at = now
        return self._top
