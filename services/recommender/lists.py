"""Lists of tracks from a batch job (see `botify.services.lists`), and the recommenders that draw from them.

`contextual`: a neighbour of the last track, drawn uniformly (Botify's `Contextual`).

`indexed`: a track of the listener's own list, drawn uniformly (Botify's `Indexed`).

`similar_users`: sticky artist that switches to neighbours after five bad listens (a participant's `SimilarUsers`).

As a participant of Botify's course published it: a streak counts the last listens of 0.2 or less in a row. Its fifth,
tenth etc. listen is answered by `contextual`, all others by `sticky_artist`, unless the listener dislikes the drawn
track: then `contextual` answers too. `contextual` falls back to a random track.

Two things differ, because a recommender stores no state: a streak ends with its session, and a listener dislikes the
tracks heard to 0.2 or less among their last 50 listens.

With d of the artist's s tracks disliked, a track t has the propensity ::

    [t by the artist, not disliked] / s  +  (d / s) · contextual(t)          contextual(t) alone after a bad streak
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from botify.core.keyed_random import Keys, integers, uniform
from botify.schemas.events import Model, RecommendationRequest
from botify.schemas.models import ModelHandle
from botify.services.errors import RecommenderError
from botify.services.recommender.catalogue import Catalogue
from botify.services.recommender.protocol import NO_ANSWER, Answers, Batch, RandomStream, Ranking, no_ranking
from botify.services.recommender.sessions import has_seen
from botify.streams.folds.users import POOR_FRACTION, UserState

NEIGHBOURS = "neighbours"
USER_LISTS = "user-lists"
"""Names of the models that the batch job publishes."""

NO_TRACK = -1
_HEADER = struct.Struct("<4sII")
_MAGIC = b"BLS1"


class Lists:
    """A list of tracks for each key, best first.

    As bytes, little-endian::

        "BLS1" | n u32 | k u32 | keys, n of i64, ascending | tracks, n rows of k of i32, padded with -1

    Parameters
    ----------
    keys : ndarray of int64, shape (n,)
        Tracks or listeners, ascending.
    tracks : ndarray of int32, shape (n, k), k at least 1
        Each row's tracks, padded with `NO_TRACK`.

    Examples
    --------
    >>> lists = Lists(np.array([3, 7]), np.array([[8, 9], [8, -1]]))
    >>> tracks, sizes = lists.of(np.array([7, 5]))
    >>> tracks[0].tolist(), sizes.tolist()
    ([8, -1], [1, 0])
    >>> len(Lists.from_bytes(lists.to_bytes()))
    2
    """

    def __init__(self, keys: NDArray[np.integer], tracks: NDArray[np.integer]) -> None:
        self._keys = keys
        self._tracks = tracks
        self._sizes: NDArray[np.int64] = (tracks != NO_TRACK).sum(axis=1)

    def __len__(self) -> int:
        return len(self._keys)

    def of(self, keys: NDArray[np.int64], most: int | None = None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Look up the lists of some keys.

        Parameters
        ----------
        keys : ndarray of int64, shape (m,)
        most : int, optional
            Maximum number of tracks returned of each list; by default all.

        Returns
        -------
        tracks : ndarray of int64, shape (m, min(k, most))
        sizes : ndarray of int64, shape (m,)
            Length of each whole list; 0 for a key without one.
        """
        if not len(self):
            return np.full((len(keys), 1), NO_TRACK), np.zeros(len(keys), dtype=np.int64)
        at = np.minimum(np.searchsorted(self._keys, keys), len(self) - 1)
        return self._tracks[at, :most].astype(np.int64), np.where(self._keys[at] == keys, self._sizes[at], 0)

    def to_bytes(self) -> bytes:
        """Return the bytes; equal lists give equal bytes."""
        header = _HEADER.pack(_MAGIC, *self._tracks.shape)
        return header + self._keys.astype("<i8").tobytes() + self._tracks.astype("<i4").tobytes()

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Read what `to_bytes` wrote; the arrays share the bytes' memory.

        Raises
        ------
        RecommenderError
            The bytes are not a list.
        """
        if len(raw) < _HEADER.size:
            raise RecommenderError(f"{len(raw)} bytes are not lists; build them again with `botify lists build`")
        magic, n, k = _HEADER.unpack_from(raw)
        if magic != _MAGIC or k < 1 or len(raw) != _HEADER.size + n * (8 + 4 * k):
            raise RecommenderError(
                f"{len(raw)} bytes that begin with {magic!r} are not lists; build them again with `botify lists build`"
            )
        keys = np.frombuffer(raw, "<i8", n, _HEADER.size)
        tracks = np.frombuffer(raw, "<i4", n * k, _HEADER.size + 8 * n).reshape(n, k)
        return cls(keys, tracks)


NO_LISTS = Lists(np.empty(0, dtype=np.int64), np.empty((0, 1), dtype=np.int32))

LatestLists = Callable[[], Lists]
"""Returns the newest lists; empty before the first."""


def lists_of(model: Model) -> Lists:
    """Decode lists from a model record."""
    return Lists.from_bytes(model.body)


def latest(followed: ModelHandle[Lists]) -> LatestLists:
    """Return a callable that gives the newest lists."""
    return lambda: followed.current or NO_LISTS


def draw_evenly(tracks: NDArray[np.int64], sizes: NDArray[np.int64], keys: Keys, stream: int) -> Answers:
    """Draw one of each list's tracks uniformly; no answer from an empty list.

    Parameters
    ----------
    tracks, sizes : ndarray
        As `Lists.of` returns them.
    keys : ndarray of uint64, shape (n,)
    stream : int
        Random stream of the keys.
    """
    some = np.maximum(sizes, 1)
    drawn = tracks[np.arange(len(tracks)), integers(keys, stream, some)]
    listed = sizes > 0
    return Answers(np.where(listed, drawn, NO_ANSWER), np.where(listed, 1.0 / some, 0.0), sizes)


def lists_as_ranking(tracks: NDArray[np.int64], sizes: NDArray[np.int64], k: int) -> Ranking:
    """Return lists, as `Lists.of` returns them, as a ranking of k tracks."""
    ranking, width = no_ranking(len(tracks), k), min(k, tracks.shape[1])
    listed = np.arange(width) < sizes[:, None]
    ranking.tracks[:, :width] = np.where(listed, tracks[:, :width], NO_ANSWER)
    ranking.scores[:, :width] = np.where(listed, -np.arange(width), -np.inf)
    return ranking


class Contextual:
    """A neighbour of the track just heard, liked or not, drawn uniformly.

    Examples
    --------
    >>> import numpy as np
    >>> from botify.schemas.events import RecommendationRequest
    >>> from botify.services.recommender.lists import Lists
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
        return draw_evenly(*self._neighbours().of(batch.tracks), batch.keys, RandomStream.CONTEXTUAL)

    def rank(self, batch: Batch, k: int) -> Ranking:
        """Return the neighbours, the nearest first."""
        return lists_as_ranking(*self._neighbours().of(batch.tracks), k)

    def because(self, batch: Batch, tracks: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the track just heard for each."""
        return np.full(len(tracks), batch.tracks[0])


class Indexed:
    """A track of the listener's own list, drawn uniformly.

    Examples
    --------
    >>> from botify.schemas.events import RecommendationRequest
    >>> from botify.services.recommender.lists import Lists
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
        return draw_evenly(*self._lists().of(users_of(batch)), batch.keys, RandomStream.INDEXED)

    def rank(self, batch: Batch, k: int) -> Ranking:
        """Return each listener's list, the best first."""
        return lists_as_ranking(*self._lists().of(users_of(batch)), k)


def users_of(batch: Batch) -> NDArray[np.int64]:
    """Return the listeners, shape (n,)."""
    return np.array([request.user for request in batch.requests], dtype=np.int64)


BAD_STREAK = 5


class _Choice(NamedTuple):
    track: int
    propensity: float
    candidates: int
    policy: str


class SimilarUsers:
    """As sticky_artist, without disliked tracks; contextual after five bad ones.

    Examples
    --------
    >>> from botify.schemas.events import RecommendationRequest, Track
    >>> from botify.services.recommender.lists import NO_LISTS
    >>> recommender = SimilarUsers(Catalogue([Track(7, "a", None, None, "x")]), lambda: NO_LISTS)
    >>> request = RecommendationRequest("s-0", 42, "s", 0, 7, 1.0, 0, 0)
    >>> answers = recommender.recommend(Batch.of([request], [None]))
    >>> answers.tracks.tolist(), answers.policies
    ([7], ['sticky_artist'])
    """

    name = "similar_users"
    fallback: str | None = "random"

    def __init__(self, catalogue: Catalogue, neighbours: LatestLists) -> None:
        self._catalogue = catalogue
        self._neighbours = neighbours

    def recommend(self, batch: Batch) -> Answers:
        """Draw for each request; no answer for a track that is not in the catalogue."""
        lists, sizes = self._neighbours().of(batch.tracks)
        by_artist = uniform(batch.keys, RandomStream.STICKY_ARTIST).tolist()
        otherwise = uniform(batch.keys, RandomStream.SIMILAR_USERS).tolist()
        choices = [
            self._choose(request, state, row, neighbours[:size], draws)
            for request, state, row, neighbours, size, draws in zip(
                batch.requests,
                batch.states,
                self._catalogue.rows_of(batch.tracks).tolist(),
                lists.tolist(),
                sizes.tolist(),
                zip(by_artist, otherwise, strict=True),
                strict=True,
            )
        ]
        return Answers(
            np.array([choice.track for choice in choices], dtype=np.int64),
            np.array([choice.propensity for choice in choices], dtype=np.float64),
            np.array([choice.candidates for choice in choices], dtype=np.int64),
            [choice.policy for choice in choices],
        )

    def _choose(
        self,
        request: RecommendationRequest,
        state: UserState | None,
        row: int,
        neighbours: list[int],
        draws: tuple[float, float],
    ) -> _Choice:
        if row < 0:
            return _Choice(NO_ANSWER, 0.0, 0, "")
        other = self._other(neighbours, draws[1])
        if _bad_streak(request, state):
            return other
        own = self._catalogue.tracks_like(row).tolist()
        disliked = _disliked(request, state)
        liked = [track for track in own if track not in disliked]
        drawn = own[int(draws[0] * len(own))]
        if len(liked) == len(own):
            return _Choice(drawn, 1 / len(own), len(own), "sticky_artist")
        chosen = other if drawn in disliked else _Choice(drawn, 0.0, 0, "sticky_artist")
        by_contextual = other.propensity if not neighbours or chosen.track in neighbours else 0.0
        propensity = ((chosen.track in liked) + (len(own) - len(liked)) * by_contextual) / len(own)
        candidates = len({*liked, *neighbours}) if neighbours else other.candidates
        return chosen._replace(propensity=propensity, candidates=candidates)

    def _other(self, neighbours: list[int], draw: float) -> _Choice:
        """Return the answer of `contextual`, or of its fallback."""
        if neighbours:
            count = len(neighbours)
            return _Choice(neighbours[int(draw * count)], 1 / count, count, "contextual")
        count = len(self._catalogue)
        return _Choice(int(self._catalogue.tracks[int(draw * count)]), 1 / count, count, "random")


def _bad_streak(request: RecommendationRequest, state: UserState | None) -> bool:
    """Return whether the request's listen completes a streak of five bad ones."""
    if request.fraction > POOR_FRACTION:
        return False
    streak = state.poor_streak if state is not None and state.session_id == request.session_id else 0
    return (streak if has_seen(state, request) else streak + 1) % BAD_STREAK == 0


def _disliked(request: RecommendationRequest, state: UserState | None) -> set[int]:
    """Return the tracks that the listener disliked, of all listens in the state."""
    disliked: set[int] = set()
    if state is not None:
        listens = state.last_listens()
        disliked.update(listens["track"][listens["fraction"] <= POOR_FRACTION].tolist())
    if request.fraction <= POOR_FRACTION:
        disliked.add(request.track)
    return disliked
