"""`random`: a track of the catalogue, drawn uniformly (Botify's `Random`)."""

from __future__ import annotations

import numpy as np

from core.keyed_random import integers
from services.recommender.catalogue import Catalogue
from services.recommender.protocol import Answers, Batch, RandomStream, no_answers


class RandomTracks:
    """Uniform over the catalogue; the end of every fallback chain.

    Examples
    --------
    >>> from schemas.events import Track
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
