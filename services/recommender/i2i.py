"""`i2i`: the best unseen neighbour of a recent track, chosen by how much of it was heard (Botify's `I2IRecommender`).

One of the last ten listens is drawn as the anchor, with a probability in proportion to its fraction; the answer is
the anchor's first neighbour that is not among the ten. An anchor without such a neighbour is put aside and another
drawn, which is the same as drawing among the others only. So the answer t has the propensity ::

    Σ fraction(a), over anchors a whose first unseen neighbour is t   /   Σ fraction(a), over anchors that have one

The neighbours come from a batch job, see `services.lists`. Cost: about 10 µs a recommendation at batch 64.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from schemas.keyed_random import uniform
from services.recommender.lists import NO_TRACK, LatestLists
from services.recommender.protocol import NO_ANSWER, Answers, Batch
from services.recommender.recent_listens import recent_listens

ANCHORS = 10


class I2I:
    """Item-to-item from a sampled anchor.

    Parameters
    ----------
    neighbours : callable returning Lists by track

    Examples
    --------
    >>> from schemas.events import RecommendationRequest
    >>> from services.recommender.lists import Lists
    >>> recommender = I2I(lambda: Lists(np.array([7]), np.array([[7, 9]])))
    >>> request = RecommendationRequest("s-0", 42, "s", 0, 7, 1.0, 0, 0)
    >>> recommender.recommend(Batch.of([request], [None])).tracks.tolist()  # 7 was just heard
    [9]
    """

    name = "i2i"
    fallback: str | None = "random"

    def __init__(self, neighbours: LatestLists) -> None:
        self._neighbours = neighbours

    def recommend(self, batch: Batch) -> Answers:
        """Draw an anchor each; no answer where nothing was heard or no anchor leads to anything new."""
        recent = recent_listens(batch, ANCHORS)
        found = self._first_unseen(recent.tracks)
        weights = np.where(found != NO_TRACK, recent.fractions, 0.0)
        bounds = np.cumsum(weights, axis=1)
        total = bounds[:, -1]
        # never all of the total, which rounding could give: no anchor lies beyond it
        target = np.minimum(uniform(batch.keys, 6) * total, np.nextafter(total, 0.0))
        anchors = np.argmax(bounds > target[:, None], axis=1)
        tracks = found[np.arange(len(batch)), anchors]
        answered = total > 0
        same = np.where(found == tracks[:, None], weights, 0.0).sum(axis=1)
        return Answers(
            np.where(answered, tracks, NO_ANSWER),
            np.divide(same, total, out=np.zeros(len(batch)), where=answered),
            _distinct(np.where(weights > 0, found, NO_TRACK)),
        )

    def _first_unseen(self, tracks: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return each track's first neighbour that is not in the same row.

        Parameters
        ----------
        tracks : ndarray of int64, shape (n, ANCHORS)

        Returns
        -------
        ndarray of int64, shape (n, ANCHORS)
            `NO_TRACK` where there is none.
        """
        n = len(tracks)
        # one more than can have been seen: further down there is nothing to be found
        neighbours, sizes = self._neighbours().of(tracks.ravel(), most=ANCHORS + 1)
        neighbours = neighbours.reshape(n, ANCHORS, -1)
        seen = (neighbours[..., None] == tracks[:, None, None, :]).any(axis=-1)
        listed = np.arange(neighbours.shape[-1]) < sizes.reshape(n, ANCHORS, 1)
        usable = listed & ~seen
        first = np.take_along_axis(neighbours, np.argmax(usable, axis=-1)[..., None], axis=-1)[..., 0]
        return np.where(usable.any(axis=-1), first, NO_TRACK)


def _distinct(tracks: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the different tracks of each row."""
    ordered = np.sort(tracks, axis=1)
    new = np.diff(ordered, axis=1, prepend=NO_TRACK) != 0  # ids are not negative, so what is no track sorts first
    count: NDArray[np.int64] = new.sum(axis=1)
    return count
