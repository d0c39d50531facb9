"""`sticky_artist`: a track of the artist just heard, drawn uniformly (Botify's `StickyArtist`).

As in Botify, the track just heard may be drawn again.

`sticky_artist_mixed`: stay with the artist if the last track was liked, else any track (Botify's `StickyArtistMixed`).

After a fraction below 0.3 the answer is a random track, otherwise another track of the artist: the one just heard is
not drawn again unless it is the artist's only one.
"""

from __future__ import annotations

import numpy as np

from core.keyed_random import integers
from services.recommender.catalogue import Catalogue
from services.recommender.protocol import NO_ANSWER, Answers, Batch, RandomStream, no_answers
from services.recommender.random_tracks import RandomTracks


class StickyArtist:
    """Uniform over the tracks of the last artist.

    Examples
    --------
    >>> from schemas.events import RecommendationRequest, Track
    >>> recommender = StickyArtist(Catalogue([Track(7, "a", None, None, "x"), Track(8, "b", None, None, "y")]))
    >>> request = RecommendationRequest("s:0", 42, "s", 0, 7, 1.0, 0, 0)
    >>> answers = recommender.recommend(Batch.of([request], [None]))
    >>> answers.tracks.tolist(), answers.propensities.tolist()
    ([7], [1.0])
    """

    name = "sticky_artist"
    fallback: str | None = "random"

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def recommend(self, batch: Batch) -> Answers:
        """Draw a track of the artist; no answer for a track that is not in the catalogue."""
        catalogue = self._catalogue
        rows = catalogue.rows_of(batch.tracks)
        if len(catalogue) == 0:
            return no_answers(len(batch))
        artists = catalogue.artist_of[rows]  # a row of -1 picks some artist, and is masked below
        sizes = catalogue.artist_size[artists]
        drawn = catalogue.by_artist[
            catalogue.artist_start[artists] + integers(batch.keys, RandomStream.STICKY_ARTIST, sizes)
        ]
        known = rows >= 0
        return Answers(
            np.where(known, catalogue.tracks[drawn], NO_ANSWER),
            np.where(known, 1.0 / sizes, 0.0),
            sizes,
        )


PLEASED = 0.3
"""Fraction from which on the artist is kept."""


class StickyArtistMixed:
    """Uniform over the artist's other tracks, or over the catalogue.

    Examples
    --------
    >>> from schemas.events import RecommendationRequest, Track
    >>> recommender = StickyArtistMixed(Catalogue([Track(t, "a", None, None, "x") for t in (7, 8)]))
    >>> request = RecommendationRequest("s-0", 42, "s", 0, 7, 1.0, 0, 0)
    >>> answers = recommender.recommend(Batch.of([request], [None]))
    >>> answers.tracks.tolist(), answers.policies
    ([8], ['sticky_artist'])
    """

    name = "sticky_artist_mixed"
    fallback: str | None = "random"

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._random = RandomTracks(catalogue)
        self._place = np.empty(len(catalogue), dtype=np.int64)  # row -> place among its artist's tracks
        grouped = catalogue.artist_of[catalogue.by_artist]
        self._place[catalogue.by_artist] = np.arange(len(catalogue)) - catalogue.artist_start[grouped]

    def recommend(self, batch: Batch) -> Answers:
        """Draw for each request; no answer while the catalogue is empty."""
        catalogue, anything = self._catalogue, self._random.recommend(batch)
        if len(catalogue) == 0:
            return anything
        rows = catalogue.rows_of(batch.tracks)
        pleased = np.array([request.fraction >= PLEASED for request in batch.requests], dtype=np.bool_)
        sticks = pleased & (rows >= 0)
        artists = catalogue.artist_of[rows]  # a row of -1 picks some artist, and is masked below
        sizes = catalogue.artist_size[artists]
        others = np.maximum(sizes - 1, 1)
        places = (self._place[rows] + 1 + integers(batch.keys, RandomStream.STICKY_ARTIST_MIXED, others)) % sizes
        drawn = catalogue.tracks[catalogue.by_artist[catalogue.artist_start[artists] + places]]
        return Answers(
            np.where(sticks, drawn, anything.tracks),
            np.where(sticks, 1.0 / others, anything.propensities),
            np.where(sticks, others, len(catalogue)),
            ["sticky_artist" if stuck else "random" for stuck in sticks.tolist()],
        )
