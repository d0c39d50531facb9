"""`toppop`: one of the most popular tracks, drawn evenly (Botify's `TopPop`, but from the live, decayed popularity).

Cost: about 0.3 µs a recommendation at batch 64; the top is read from Redis once a second.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from schemas.keyed_random import integers
from services.recommender.protocol import Answers, Batch, no_answers


class TopPop:
    """Uniform over the top tracks.

    Parameters
    ----------
    top : callable returning ndarray of int64
        The current top tracks; empty before the first listen.

    Examples
    --------
    >>> TopPop(lambda: np.array([5])).recommend(Batch.of([], [])).tracks.tolist()
    []
    """

    name = "toppop"
    fallback: str | None = "random"

    def __init__(self, top: Callable[[], NDArray[np.int64]]) -> None:
        self._top = top

    def recommend(self, batch: Batch) -> Answers:
        """Draw one of the top for each request."""
        top, size = self._top(), len(batch)
        if len(top) == 0:
            return no_answers(size)
        return Answers(top[integers(batch.keys, 1, len(top))], np.full(size, 1.0 / len(top)), np.full(size, len(top)))
