"""`indexed`: a track of the list that a batch job made for the listener, all alike (Botify's `Indexed`).

See `services.lists` for the job. Cost: about 0.6 µs a recommendation at batch 64.
"""

from __future__ import annotations

import numpy as np

from services.recommender.lists import LatestLists, draw_evenly
from services.recommender.protocol import Answers, Batch


class Indexed:
    """Uniform over the listener's own list.

    Parameters
    ----------
    lists : callable returning Lists by listener

    Examples
    --------
    >>> from schemas.events import RecommendationRequest
    >>> from services.recommender.lists import Lists
    >>> recommender = Indexed(lambda: Lists(np.array([42]), np.array([[9]])))
    >>> request = RecommendationRequest("s-0", 42, "s", 0, 7, 1.0, 0, 0)
    >>> recommender.recommend(Batch.of([request], [None])).tracks.tolist()
    [9]
    """

    name = "indexed"
    fallback: str | None = "random"

    def __init__(self, lists: LatestLists) -> None:
        self._lists = lists

    def recommend(self, batch: Batch) -> Answers:
        """Draw from each listener's list; no answer for a listener without one."""
        users = np.array([request.user for request in batch.requests], dtype=np.int64)
        return draw_evenly(*self._lists().of(users), batch.keys, 4)
