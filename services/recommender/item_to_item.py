"""`i2i`: the best unseen neighbour of a recent track, chosen by how much of it was heard (Botify's `I2IRecommender`).

One of the last ten listens is drawn as the seed track, with a probability proportional to its fraction; the answer is
the seed track's first neighbour that is not among the ten. A seed track without such a neighbour is rejected and
another one drawn, which is the same as drawing among the others only. So the answer t has the propensity ::

    Σ fraction(s), over seed tracks s whose first unseen neighbour is t   /   Σ fraction(s), over all that have one

The neighbours come from a batch job, see `botify.services.lists`.

`i2i_stream`: unheard neighbours of what the session liked recently, in the graph that the learner maintains.

Each of the last `STREAM_SEED_TRACKS` liked listens passes its fraction on to its neighbours, in proportion to their
weight; a candidate's score is the highest that it receives. The answer is drawn uniformly from the `BEST` best: always
taking the first would leave the others unexplored. If the graph has no neighbours, the fallback answers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from botify.core.keyed_random import uniform
from botify.services.recommender.candidates import (
    Candidates,
    LatestGraph,
    best_of_candidates,
    draw_from_best,
    liked_together,
    nearest_liked,
    unheard,
)
from botify.services.recommender.catalogue import Catalogue
from botify.services.recommender.lists import NO_TRACK, LatestLists
from botify.services.recommender.protocol import (
    NO_ANSWER,
    Answers,
    Batch,
    RandomStream,
    Ranking,
    no_answers,
    no_ranking,
)
from botify.services.recommender.sessions import has_seen, sessions_so_far
from botify.streams.folds.users import LISTEN

SEED_TRACKS = 10


class RecentListens(NamedTuple):
    """The most recent listens of each listener of a batch, newest first.

    Attributes
    ----------
    tracks : ndarray of int64, shape (n, count)
        `NO_TRACK` if there was no earlier listen.
    fractions : ndarray of float64, shape (n, count)
        0 there.
    """

    tracks: NDArray[np.int64]
    fractions: NDArray[np.float64]


def recent_listens(batch: Batch, count: int) -> RecentListens:
    """Gather the last `count` listens of each listener, across sessions.

    Examples
    --------
    >>> from botify.schemas.events import RecommendationRequest
    >>> request = RecommendationRequest("s-0", 42, "s", 0, 7, 0.5, 0, 0)
    >>> recent_listens(Batch.of([request], [None]), 3).tracks.tolist()
    [[7, -1, -1]]
    """
    n = len(batch)
    tracks = np.full((n, count), NO_TRACK, dtype=np.int64)
    fractions = np.zeros((n, count))
    tracks[:, 0] = batch.tracks
    fractions[:, 0] = [request.fraction for request in batch.requests]
    # one array for all histories: one for each listener would cost ten times as much
    most = count * LISTEN.itemsize
    histories = [state.history[-most:] if state is not None else b"" for state in batch.states]
    listens = np.frombuffer(b"".join(histories), dtype=LISTEN)
    lengths = np.array([len(history) // LISTEN.itemsize for history in histories], dtype=np.int64)
    rows = np.repeat(np.arange(n), lengths)
    ends = np.cumsum(lengths)
    ages = ends[rows] - 1 - np.arange(len(listens))
    unseen = [not has_seen(state, request) for state, request in zip(batch.states, batch.requests, strict=True)]
    slots = ages + np.array(unseen, dtype=np.int64)[rows]
    fit = slots < count
    tracks[rows[fit], slots[fit]] = listens["track"][fit]
    fractions[rows[fit], slots[fit]] = listens["fraction"][fit]
    return RecentListens(tracks, fractions)


class I2I:
    """The best unseen neighbour of a recent track.

    Examples
    --------
    >>> from botify.schemas.events import RecommendationRequest
    >>> from botify.services.recommender.lists import Lists
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
        """Draw a seed track for each request; no answer if no track heard has an unseen neighbour."""
        recent = recent_listens(batch, SEED_TRACKS)
        found = self._first_unseen(recent.tracks)
        weights = np.where(found != NO_TRACK, recent.fractions, 0.0)
        bounds = np.cumsum(weights, axis=1)
        total = bounds[:, -1]
        # rounding could make this the whole total, beyond which there is no seed track
        target = np.minimum(uniform(batch.keys, RandomStream.I2I) * total, np.nextafter(total, 0.0))
        seed_tracks = np.argmax(bounds > target[:, None], axis=1)
        tracks = found[np.arange(len(batch)), seed_tracks]
        answered = total > 0
        same = np.where(found == tracks[:, None], weights, 0.0).sum(axis=1)
        return Answers(
            np.where(answered, tracks, NO_ANSWER),
            np.divide(same, total, out=np.zeros(len(batch)), where=answered),
            _distinct(np.where(weights > 0, found, NO_TRACK)),
        )

    def _first_unseen(self, tracks: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return each track's first neighbour that is not in the same row, else `NO_TRACK`; shape (n, SEED_TRACKS)."""
        n = len(tracks)
        # at most SEED_TRACKS of them were seen, so the first unseen one is among one more
        neighbours, sizes = self._neighbours().of(tracks.ravel(), most=SEED_TRACKS + 1)
        neighbours = neighbours.reshape(n, SEED_TRACKS, -1)
        seen = (neighbours[..., None] == tracks[:, None, None, :]).any(axis=-1)
        listed = np.arange(neighbours.shape[-1]) < sizes.reshape(n, SEED_TRACKS, 1)
        usable = listed & ~seen
        first = np.take_along_axis(neighbours, np.argmax(usable, axis=-1)[..., None], axis=-1)[..., 0]
        return np.where(usable.any(axis=-1), first, NO_TRACK)


def _distinct(tracks: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the distinct tracks of each row."""
    ordered = np.sort(tracks, axis=1)
    new = np.diff(ordered, axis=1, prepend=NO_TRACK) != 0  # ids are not negative, so NO_TRACK sorts first
    count: NDArray[np.int64] = new.sum(axis=1)
    return count


BEST = 5


class I2IStream:
    """An unheard neighbour of what the session liked, in the live graph.

    Examples
    --------
    >>> I2IStream(Catalogue([]), lambda: None).recommend(Batch.of([], [])).tracks.tolist()
    []
    """

    name = "i2i_stream"
    fallback: str | None = "sticky_norepeat"

    def __init__(self, catalogue: Catalogue, graph: LatestGraph) -> None:
        self._catalogue = catalogue
        self._graph = graph

    def recommend(self, batch: Batch) -> Answers:
        """Draw for each request; no answer if the graph has no unheard neighbour."""
        if not len(self._catalogue):
            return no_answers(len(batch))
        return draw_from_best(self._near(batch), batch.keys, RandomStream.I2I_STREAM, BEST, self._catalogue)

    def rank(self, batch: Batch, k: int) -> Ranking:
        """Return the best of the graph's unheard neighbours."""
        if not len(self._catalogue):
            return no_ranking(len(batch), k)
        return best_of_candidates(self._near(batch), len(batch), k, self._catalogue)

    def because(self, batch: Batch, tracks: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the listen that each track is offered for."""
        return nearest_liked(sessions_so_far(batch, self._catalogue), tracks, self._catalogue, self._graph())

    def _near(self, batch: Batch) -> Candidates:
        """Return the unheard neighbours with their scores, none twice in a session."""
        so_far = sessions_so_far(batch, self._catalogue)
        return unheard(liked_together(so_far, self._catalogue, self._graph()), so_far, self._catalogue)
