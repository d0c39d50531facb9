"""`random`: a track of the catalogue, drawn uniformly (Botify's `Random`)."""

from __future__ import annotations

from math import isqrt

import numpy as np

from botify.core.keyed_random import integers, mix
from botify.services.recommender.catalogue import Catalogue
from botify.services.recommender.protocol import Answers, Batch, RandomStream, Ranking, no_answers, no_ranking


class RandomTracks:
    """A track of the catalogue, drawn uniformly; the end of every fallback chain.

    Examples
    --------
    >>> from botify.schemas.events import Track
    >>> recommender = RandomTracks(Catalogue([Track(7, "a", None, None, "x")]))
    >>> recommender.recommend(Batch.of([], [])).tracks.tolist()
    []
    """

    name = "random"
    fallback: str | None = None

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def recommend(self, batch: Batch) -> Answers:
        """Draw a row for each request; no answer while the catalogue is empty."""
        count = len(self._catalogue)
        if count == 0:
            return no_answers(len(batch))
        rows = integers(batch.keys, RandomStream.RANDOM, count)
        size = len(batch)
        return Answers(self._catalogue.tracks[rows], np.full(size, 1.0 / count), np.full(size, count))

    def rank(self, batch: Batch, k: int) -> Ranking:
        """Return k rows for each request: from a drawn one on in steps of a drawn size, around a prime circle.

        No row comes twice, as no step but a whole turn leads back; places of the circle without a row are left out.
        """
        count, ranking = len(self._catalogue), no_ranking(len(batch), k)
        circle = _prime_from(count)
        places = np.arange(min(k + circle - count, circle))
        first = integers(batch.keys, RandomStream.RANDOM, circle)[:, None]
        step = 1 + integers(mix(batch.keys, 1), RandomStream.RANDOM, circle - 1)[:, None]
        rows = (first + step * places) % circle
        drawn = np.take_along_axis(rows, np.argsort(rows >= count, axis=1, kind="stable"), axis=1)[:, : min(k, count)]
        ranking.tracks[:, : drawn.shape[1]] = self._catalogue.tracks[drawn]
        ranking.scores[:, : drawn.shape[1]] = -np.arange(drawn.shape[1])
        return ranking


def _prime_from(least: int) -> int:
    """Return the smallest prime that is `least` or more."""
    candidate = max(least, 2)
    while any(candidate % divisor == 0 for divisor in range(2, isqrt(candidate) + 1)):
        candidate += 1
    return candidate
