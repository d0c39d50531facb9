"""`memory`: a track that the listener liked in an earlier session like this one.

A like (see `streams.folds.likes`) knows its track, how much of it was heard, and the first track of its session. Its
score is ::

    fraction · match · γ ** (this session's listens of the artist)

where the match is 1 if its session began with the same track as this one, 0.9 with the same artist, 0.8 in the same
genre, and 0.3 otherwise. The answer is one of the `BEST` best that this session has not had, all alike.

Cost: about 17 µs a recommendation at batch 64.
"""

from __future__ import annotations

import numpy as np

from services.recommender.candidates import Candidates, discounted, draw_from_best, unheard
from services.recommender.catalogue import Catalogue
from services.recommender.protocol import Answers, Batch, RandomStream, no_answers
from services.recommender.sessions import SessionsSoFar, sessions_so_far
from streams.folds.likes import LIKE

BEST = 3
SAME_TRACK, SAME_ARTIST, SAME_GENRE, OTHER = 1.0, 0.9, 0.8, 0.3
LEAST_SCORE = 0.25
"""A worse memory is none: `sticky_norepeat` answers instead."""
_NOTHING = np.zeros(0, dtype=LIKE)


class Memory:
    """What was liked before.

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
        """Draw for each request; no answer where nothing worth it is remembered."""
        if not len(self._catalogue):
            return no_answers(len(batch))
        so_far = sessions_so_far(batch, self._catalogue)
        liked = unheard(liked_before(batch, so_far, self._catalogue), so_far, self._catalogue)
        remembered = discounted(liked, so_far, self._catalogue)
        good = remembered.where(remembered.scores >= LEAST_SCORE)
        return draw_from_best(good, batch.keys, RandomStream.MEMORY, BEST, self._catalogue)


def liked_before(batch: Batch, so_far: SessionsSoFar, catalogue: Catalogue) -> Candidates:
    """Return what each listener liked, scored by fraction and match; a track may be there twice."""
    of_users = [_NOTHING if likes is None else likes.all() for likes in batch.likes]
    likes = np.frombuffer(b"".join(one.data for one in of_users), dtype=LIKE)
    sessions = np.repeat(np.arange(len(batch)), [len(likes) for likes in of_users])
    both = catalogue.rows_of(np.concatenate([likes["track"], likes["anchor"]]).astype(np.int64))
    rows, then = both[: len(likes)], both[len(likes) :]
    now = so_far.seed_tracks[sessions]
    known = (rows >= 0) & (then >= 0) & (now >= 0)
    rows, then, now = rows[known], then[known], now[known]
    match = np.select(
        [
            then == now,
            catalogue.artist_of[then] == catalogue.artist_of[now],
            catalogue.genre_of[then] == catalogue.genre_of[now],
        ],
        [SAME_TRACK, SAME_ARTIST, SAME_GENRE],
        OTHER,
    )
    return Candidates(sessions[known], rows, likes["fraction"][known] * match)
