"""`contextual`: one of the last track's neighbours, all alike (Botify's `Contextual`).

The neighbours come from a batch job, see `services.lists`. Cost: about 0.6 µs a recommendation at batch 64.
"""

from __future__ import annotations

from services.recommender.lists import LatestLists, draw_evenly
from services.recommender.protocol import Answers, Batch


class Contextual:
    """Uniform over the neighbours of the track just heard, liked or not.

    Parameters
    ----------
    neighbours : callable returning Lists by track

    Examples
    --------
    >>> import numpy as np
    >>> from schemas.events import RecommendationRequest
    >>> from services.recommender.lists import Lists
    >>> recommender = Contextual(lambda: Lists(np.array([7]), np.array([[9]])))
    >>> request = RecommendationRequest("s-0", 42, "s", 0, 7, 1.0, 0, 0)
    >>> recommender.recommend(Batch.of([request], [None])).tracks.tolist()
    [9]
    """

    name = "contextual"
    fallback: str | None = "random"

    def __init__(self, neighbours: LatestLists) -> None:
        self._neighbours = neighbours

    def recommend(self, batch: Batch) -> Answers:
        """Draw a neighbour; no answer for a track without any."""
        return draw_evenly(*self._neighbours().of(batch.tracks), batch.keys, 3)
