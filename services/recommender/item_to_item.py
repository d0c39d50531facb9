"""`i2i`: the best unseen neighbour of a recent track, chosen by how much of it was heard (Botify's `I2IRecommender`).

One of the last ten listens is drawn as the seed track, with a probability in proportion to its fraction; the answer is
the seed track's first neighbour that is not among the ten. Without such a neighbour it is put aside and another
drawn, which is the same as drawing among the others only. So the answer t has the propensity ::

    Σ fraction(s), over seed tracks s whose first unseen neighbour is t   /   Σ fraction(s), over all that have one

The neighbours come from a batch job, see `services.lists`. Cost: about 10 µs a recommendation at batch 64.

`i2i_stream`: unheard neighbours of what the session liked lately, in the graph that the learner keeps.

Each of the last `STREAM_SEED_TRACKS` listens that were liked passes its affinity on to its neighbours, in proportion to
their weight; a candidate's score is the best of what it is given, times γ to the session's listens of its artist. The
answer is one of the `BEST` best, all alike: always the first would leave the rest of the list unknown. Where the graph
knows nothing, the fallback stays with the artist.

Cost: about 25 µs a recommendation at batch 64.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from core.keyed_random import uniform
from schemas.events import Model
from services.recommender.candidates import Candidates, discounted, draw_from_best, unheard
from services.recommender.catalogue import Catalogue
from services.recommender.lists import NO_TRACK, LatestLists
from services.recommender.protocol import NO_ANSWER, Answers, Batch, RandomStream, no_answers
from services.recommender.sessions import SessionsSoFar, recent_listens, sessions_so_far
from streams.learner.models.item_graph import LIKED, neighbours_of

SEED_TRACKS = 10


class I2I:
    """Item-to-item from a sampled seed track.

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
        """Draw an seed track each; no answer where nothing was heard or no seed track leads to anything new."""
        recent = recent_listens(batch, SEED_TRACKS)
        found = self._first_unseen(recent.tracks)
        weights = np.where(found != NO_TRACK, recent.fractions, 0.0)
        bounds = np.cumsum(weights, axis=1)
        total = bounds[:, -1]
        # never all of the total, which rounding could give: no seed track lies beyond it
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
        """Return each track's first neighbour that is not in the same row.

        Parameters
        ----------
        tracks : ndarray of int64, shape (n, SEED_TRACKS)

        Returns
        -------
        ndarray of int64, shape (n, ANCHORS)
            `NO_TRACK` where there is none.
        """
        n = len(tracks)
        # one more than can have been seen: further down there is nothing to be found
        neighbours, sizes = self._neighbours().of(tracks.ravel(), most=SEED_TRACKS + 1)
        neighbours = neighbours.reshape(n, SEED_TRACKS, -1)
        seen = (neighbours[..., None] == tracks[:, None, None, :]).any(axis=-1)
        listed = np.arange(neighbours.shape[-1]) < sizes.reshape(n, SEED_TRACKS, 1)
        usable = listed & ~seen
        first = np.take_along_axis(neighbours, np.argmax(usable, axis=-1)[..., None], axis=-1)[..., 0]
        return np.where(usable.any(axis=-1), first, NO_TRACK)


def _distinct(tracks: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the different tracks of each row."""
    ordered = np.sort(tracks, axis=1)
    new = np.diff(ordered, axis=1, prepend=NO_TRACK) != 0  # ids are not negative, so what is no track sorts first
    count: NDArray[np.int64] = new.sum(axis=1)
    return count


Ints = NDArray[np.int64]

STREAM_SEED_TRACKS = 8
BEST = 5


class ServedGraph:
    """A snapshot of the graph, by row of a catalogue; made anew where the catalogue has grown."""

    def __init__(self, snapshot: bytes) -> None:
        self._ids, self._neighbours, self._weights = neighbours_of(snapshot)
        self._made: tuple[Catalogue, Ints, NDArray[np.float32]] | None = None

    def of(self, catalogue: Catalogue) -> tuple[Ints, NDArray[np.float32]]:
        """Return neighbours, shape (n, k), as rows (-1 for none), and their weights, for each row."""
        made = self._made
        if made is None or made[0] is not catalogue:
            made = self._made = (catalogue, *self._table(catalogue))
        return made[1], made[2]

    def _table(self, catalogue: Catalogue) -> tuple[Ints, NDArray[np.float32]]:
        width = self._neighbours.shape[1]
        neighbours = np.full((len(catalogue), width), -1, dtype=np.int64)
        weights = np.zeros((len(catalogue), width), dtype=np.float32)
        rows = catalogue.rows_of(self._ids.astype(np.int64))
        known = rows >= 0
        near = catalogue.rows_of(self._neighbours[known].astype(np.int64).ravel())
        neighbours[rows[known]] = near.reshape(-1, width)
        weights[rows[known]] = self._weights[known]
        return neighbours, weights


LatestGraph = Callable[[], ServedGraph | None]


def graph_of(model: Model) -> ServedGraph:
    """Read a snapshot.

    Raises
    ------
    ValueError
        Its body is something else.
    """
    return ServedGraph(model.body)


class I2IStream:
    """Neighbours in the live graph.

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
        """Draw for each request; no answer where the graph leads nowhere new."""
        if not len(self._catalogue):
            return no_answers(len(batch))
        so_far = sessions_so_far(batch, self._catalogue)
        near = unheard(liked_together(so_far, self._catalogue, self._graph()), so_far, self._catalogue)
        near = discounted(near, so_far, self._catalogue)
        return draw_from_best(near, batch.keys, RandomStream.I2I_STREAM, BEST, self._catalogue)


def liked_together(so_far: SessionsSoFar, catalogue: Catalogue, graph: ServedGraph | None) -> Candidates:
    """Return the neighbours of what each session liked lately, by affinity and weight; a track may be there twice."""
    if graph is None:
        return Candidates(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0))
    age = so_far.last()[:, None] - np.arange(so_far.valid.shape[1])
    seed_tracks = so_far.valid & (so_far.affinity >= LIKED) & (age < STREAM_SEED_TRACKS)
    session, column = np.nonzero(seed_tracks)
    neighbours, weights = graph.of(catalogue)
    rows = so_far.rows[session, column]
    near = neighbours[rows]
    scores = weights[rows] * so_far.affinity[session, column][:, None]
    known = near >= 0
    sessions = np.broadcast_to(session[:, None], near.shape)
    return Candidates(sessions[known], near[known], scores[known].astype(np.float64))
