"""`memory`: a track that the listener liked in a similar earlier session.

A like (see `streams.folds.likes`) knows its track, how much of it was heard, and the first track of its session. Its
score is ::

    fraction · match · γ ** (this session's listens of the artist)

where the match is 1 if its session began with the same track as this one, 0.9 with the same artist, 0.8 in the same
genre, and 0.3 otherwise. The answer is drawn uniformly from the `BEST` best that this session has not heard.
"""

from __future__ import annotations

from services.recommender.candidates import discounted, draw_from_best, liked_before, unheard
from services.recommender.catalogue import Catalogue
from services.recommender.protocol import Answers, Batch, RandomStream, no_answers
from services.recommender.sessions import sessions_so_far

BEST = 3
LEAST_SCORE = 0.25
"""Candidates with a lower score are dropped; without any, the fallback answers."""


class Memory:
    """Tracks that the listener liked before.

    Examples
    --------
    >>> Memory(Catalogue([])).recommend(Batch.of([], [])).tracks.tolist()
    []
    """

    name = "memory"
    fallback: str | None = "sticky_norepeat"

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def recommend(self, batch: Batch) -> Answers:
        """Draw for each request; no answer without a candidate of at least `LEAST_SCORE`."""
        if not len(self._catalogue):
            return no_answers(len(batch))
        so_far = sessions_so_far(batch, self._catalogue)
        liked = unheard(liked_before(batch, so_far, self._catalogue), so_far, self._catalogue)
        remembered = discounted(liked, so_far, self._catalogue)
        good = remembered.where(remembered.scores >= LEAST_SCORE)
        return draw_from_best(good, batch.keys, RandomStream.MEMORY, BEST, self._catalogue)
