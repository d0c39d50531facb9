"""Lists of tracks from a batch job (see `botify.services.lists`), and the recommenders that draw from them.

`contextual`, `indexed` and `i2i` are Botify's.

`similar_users`: sticky artist that switches to neighbours after five bad listens, as a participant of Botify's course
published it: a streak counts the last listens of 0.2 or less in a row. Its fifth, tenth etc. listen is answered by
`contextual`, all others by `sticky_artist`, unless the listener dislikes the drawn track: then `contextual` answers
too, or a random track. As a recommender stores no state, a streak ends with its session, and a listener dislikes the
tracks heard to 0.2 or less among their last 50 listens. With d of the artist's s tracks disliked, a track t has the
propensity ::

    [t by the artist, not disliked] / s  +  (d / s) · contextual(t)          contextual(t) alone after a bad streak

`i2i`: the best unseen neighbour of a recent track, chosen by how much of it was heard (Botify's `I2IRecommender`). One
of the last ten listens is drawn as the seed track, with a probability proportional to its fraction, of those with a
neighbour that is not among the ten; the answer is the first such neighbour. So t has the propensity ::

    Σ fraction(s), over seed tracks s whose first unseen neighbour is t   /   Σ fraction(s), over all that have one
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from botify.core.keyed_random import integers, uniform
from botify.schemas.events import Model, RecommendationRequest
from botify.services.errors import RecommenderError
from botify.services.recommender.catalogue import Catalogue
from botify.services.recommender.protocol import NO_ANSWER, Answers, Batch, Floats, Ints, RandomStream, Ranking
from botify.services.recommender.sessions import has_seen, recent_listens
from botify.streams.folds.users import POOR_FRACTION, UserState

NEIGHBOURS = "neighbours"
USER_LISTS = "user-lists"  # names of the models that the batch job publishes

NO_TRACK = -1
_HEADER = struct.Struct("<4sII")
_MAGIC = b"BLS1"


class Lists:
    """A list of tracks for each key, best first.

    `keys`, shape (n,), are tracks or listeners, ascending; `tracks`, shape (n, k) with k at least 1, is padded with
    `NO_TRACK`. As bytes, little-endian::

        "BLS1" | n u32 | k u32 | keys, n of i64, ascending | tracks, n rows of k of i32, padded with -1

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
        self._sizes: Ints = (tracks != NO_TRACK).sum(axis=1)

    def __len__(self) -> int:
        return len(self._keys)

    def of(self, keys: Ints, most: int | None = None) -> tuple[Ints, Ints]:
        """Return the first `most` tracks of each key's list, and the length of the whole list, 0 without one.

        Shapes are (m, min(k, most)) and (m,).
        """
        if not len(self):
            return np.full((len(keys), 1), NO_TRACK), np.zeros(len(keys), dtype=np.int64)
        at = np.minimum(np.searchsorted(self._keys, keys), len(self) - 1)
        return self._tracks[at, :most].astype(np.int64), np.where(self._keys[at] == keys, self._sizes[at], 0)

    def to_bytes(self) -> bytes:
        header = _HEADER.pack(_MAGIC, *self._tracks.shape)
        return header + self._keys.astype("<i8").tobytes() + self._tracks.astype("<i4").tobytes()

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Read what `to_bytes` wrote; the arrays share its memory. Raises `RecommenderError` for other bytes."""
        if len(raw) < _HEADER.size:
            raise RecommenderError(f"{len(raw)} bytes are not lists; `botify models publish` makes new ones")
        magic, n, k = _HEADER.unpack_from(raw)
        if magic != _MAGIC or k < 1 or len(raw) != _HEADER.size + n * (8 + 4 * k):
            raise RecommenderError(
                f"{len(raw)} bytes that begin with {magic!r} are not lists; `botify models publish` makes new ones"
            )
        keys = np.frombuffer(raw, "<i8", n, _HEADER.size)
        tracks = np.frombuffer(raw, "<i4", n * k, _HEADER.size + 8 * n).reshape(n, k)
        return cls(keys, tracks)


NO_LISTS = Lists(np.empty(0, dtype=np.int64), np.empty((0, 1), dtype=np.int32))

LatestLists = Callable[[], Lists]  # returns the newest lists; empty before the first


def lists_of(model: Model) -> Lists:
    """Decode lists from a model record."""
    return Lists.from_bytes(model.body)


class Contextual:
    """A neighbour of the track just heard, liked or not, drawn uniformly.

    Examples
    --------
    >>> recommender = Contextual(lambda: Lists(np.array([7]), np.array([[9]])))
    >>> request = RecommendationRequest("s-0", 42, "s", 0, 7, 1.0, 0, 0)
    >>> recommender.recommend(Batch.of([request], [None])).tracks.tolist()
    [9]
    """

    name = "contextual"
    fallback: str | None = "random"
    random_stream = RandomStream.CONTEXTUAL

    def __init__(self, lists: LatestLists) -> None:
        self._lists = lists

    def recommend(self, batch: Batch) -> Answers:
        tracks, sizes = self._lists().of(self.keys_of(batch))
        some, listed = np.maximum(sizes, 1), sizes > 0
        drawn = tracks[np.arange(len(tracks)), integers(batch.keys, self.random_stream, some)]
        return Answers(np.where(listed, drawn, NO_ANSWER), np.where(listed, 1.0 / some, 0.0), sizes)

    def probability(self, batch: Batch, tracks: Ints) -> Floats:
        lists, sizes = self._lists().of(self.keys_of(batch))
        listed = np.arange(lists.shape[1]) < sizes[:, None]
        hits = (listed & (lists == tracks[:, None])).any(axis=1)
        return np.where(hits, 1.0 / np.maximum(sizes, 1), 0.0)

    def rank(self, batch: Batch, k: int) -> Ranking:
        tracks, sizes = self._lists().of(self.keys_of(batch))
        ranking, width = Ranking.none(len(tracks), k), min(k, tracks.shape[1])
        listed = np.arange(width) < sizes[:, None]
        ranking.tracks[:, :width] = np.where(listed, tracks[:, :width], NO_ANSWER)
        ranking.scores[:, :width] = np.where(listed, -np.arange(width), -np.inf)
        return ranking

    def keys_of(self, batch: Batch) -> Ints:
        """Return whose lists are drawn from: those of the tracks just heard."""
        return batch.tracks

    def because(self, batch: Batch, tracks: Ints) -> Ints:
        return np.full(len(tracks), batch.tracks[0])


class Indexed(Contextual):
    """A track of the listener's own list, drawn uniformly."""

    name = "indexed"
    random_stream = RandomStream.INDEXED

    def keys_of(self, batch: Batch) -> Ints:
        return np.array([request.user for request in batch.requests], dtype=np.int64)

    def because(self, batch: Batch, tracks: Ints) -> Ints:
        """Return nothing: the list says no reason."""
        return np.full(len(tracks), NO_ANSWER)


BAD_STREAK = 5


class _Choice(NamedTuple):
    track: int
    propensity: float
    candidates: int
    policy: str


class SimilarUsers:
    """As sticky_artist, without disliked tracks; contextual after five bad ones."""

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
        rows = self._catalogue.rows_of(batch.tracks).tolist()
        drawn = zip(lists.tolist(), sizes.tolist(), by_artist, otherwise, strict=True)
        choices = [
            self._choose(request, state, row, neighbours[:size], draws)
            for request, state, row, (neighbours, size, *draws) in zip(
                batch.requests, batch.states, rows, drawn, strict=True
            )
        ]
        tracks, propensities, candidates, policies = zip(*choices, strict=True) if choices else ((), (), (), ())
        numbers = np.array(tracks, dtype=np.int64), np.array(propensities), np.array(candidates, dtype=np.int64)
        return Answers(*numbers, list(policies))

    def _choose(
        self,
        request: RecommendationRequest,
        state: UserState | None,
        row: int,
        neighbours: list[int],
        draws: Sequence[float],
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
        if neighbours:
            count = len(neighbours)
            return _Choice(neighbours[int(draw * count)], 1 / count, count, "contextual")
        count = len(self._catalogue)
        return _Choice(int(self._catalogue.tracks[int(draw * count)]), 1 / count, count, "random")


def _bad_streak(request: RecommendationRequest, state: UserState | None) -> bool:
    if request.fraction > POOR_FRACTION:
        return False
    streak = state.poor_streak if state is not None and state.session_id == request.session_id else 0
    return (streak if has_seen(state, request) else streak + 1) % BAD_STREAK == 0


def _disliked(request: RecommendationRequest, state: UserState | None) -> set[int]:
    disliked: set[int] = set()
    if state is not None:
        listens = state.last_listens()
        disliked.update(listens["track"][listens["fraction"] <= POOR_FRACTION].tolist())
    if request.fraction <= POOR_FRACTION:
        disliked.add(request.track)
    return disliked


SEED_TRACKS = 10


class I2I:
    """The best unseen neighbour of a recent track."""

    name = "i2i"
    fallback: str | None = "random"

    def __init__(self, neighbours: LatestLists) -> None:
        self._neighbours = neighbours

    def recommend(self, batch: Batch) -> Answers:
        """Draw a seed track for each request; no answer if no track heard has an unseen neighbour."""
        found, weights = self._weighted(batch)
        bounds = np.cumsum(weights, axis=1)
        total = bounds[:, -1]
        # rounding could make this the whole total, beyond which there is no seed track
        target = np.minimum(uniform(batch.keys, RandomStream.I2I) * total, np.nextafter(total, 0.0))
        seed_tracks = np.argmax(bounds > target[:, None], axis=1)
        tracks = found[np.arange(len(batch)), seed_tracks]
        answered = total > 0
        return Answers(
            np.where(answered, tracks, NO_ANSWER),
            _share(found, weights, tracks),
            _distinct(np.where(weights > 0, found, NO_TRACK)),
        )

    def probability(self, batch: Batch, tracks: Ints) -> Floats:
        return _share(*self._weighted(batch), tracks)

    def _weighted(self, batch: Batch) -> tuple[Ints, Floats]:
        """Return what each recent track leads to, else `NO_TRACK`, and the weight of that; shape (n, SEED_TRACKS)."""
        tracks, fractions = recent_listens(batch, SEED_TRACKS)
        found = self._first_unseen(tracks)
        return found, np.where(found != NO_TRACK, fractions, 0.0)

    def _first_unseen(self, tracks: Ints) -> Ints:
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


def _share(found: Ints, weights: Floats, tracks: Ints) -> Floats:
    """Return the share of each row's weights that its track has, 0 where there are none."""
    same, total = np.where(found == tracks[:, None], weights, 0.0).sum(axis=1), np.cumsum(weights, axis=1)[:, -1]
    shares: Floats = np.divide(same, total, out=np.zeros(len(found)), where=total > 0)
    return shares


def _distinct(tracks: Ints) -> Ints:
    ordered = np.sort(tracks, axis=1)
    new = np.diff(ordered, axis=1, prepend=NO_TRACK) != 0  # ids are not negative, so NO_TRACK sorts first
    count: Ints = new.sum(axis=1)
    return count
