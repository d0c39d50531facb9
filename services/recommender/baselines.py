"""Recommenders without a model: `random`, `toppop` and sticky artists. All but `sticky_norepeat` are Botify's."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from botify.core.keyed_random import earlier_of_key, integers, mix
from botify.services.recommender.candidates import (
    Candidates,
    best_of_candidates,
    most_of,
    tracks_of,
    unheard,
)
from botify.services.recommender.catalogue import Catalogue
from botify.services.recommender.protocol import NO_ANSWER, Answers, Batch, Floats, Ints, RandomStream, Ranking
from botify.services.recommender.sessions import sessions_so_far
from botify.streams.read import StateReader
from botify.streams.store.connect import REDIS_ERRORS


class RandomTracks:
    """A track of the catalogue, drawn uniformly; the end of every fallback chain."""

    name = "random"
    fallback: str | None = None

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def recommend(self, batch: Batch) -> Answers:
        count = len(self._catalogue)
        if count == 0:
            return Answers.none(len(batch))
        rows = integers(batch.keys, RandomStream.RANDOM, count)
        size = len(batch)
        return Answers(self._catalogue.tracks[rows], np.full(size, 1.0 / count), np.full(size, count))

    def probability(self, batch: Batch, tracks: Ints) -> Floats:
        return (self._catalogue.rows_of(tracks) >= 0) / max(len(self._catalogue), 1)

    def rank(self, batch: Batch, k: int) -> Ranking:
        """Return k different rows: from a drawn one on in steps of a drawn size, around a circle of a prime length."""
        count, ranking = len(self._catalogue), Ranking.none(len(batch), k)
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
    candidate = max(least, 2)
    while any(candidate % divisor == 0 for divisor in range(2, isqrt(candidate) + 1)):
        candidate += 1
    return candidate


class TopPop:
    """One of the most popular tracks, drawn uniformly.

    `top` returns the current top tracks, empty before the first listen; `longer_top` a given number of them, by default
    no more than `top` has.
    """

    name = "toppop"
    fallback: str | None = "random"

    def __init__(self, top: Callable[[], Ints], longer_top: Callable[[int], Ints] | None = None) -> None:
        self._top = top
        self._longer_top = longer_top or (lambda k: top()[:k])

    def recommend(self, batch: Batch) -> Answers:
        top, size = self._top(), len(batch)
        if len(top) == 0:
            return Answers.none(size)
        drawn = top[integers(batch.keys, RandomStream.TOPPOP, len(top))]
        return Answers(drawn, np.full(size, 1.0 / len(top)), np.full(size, len(top)))

    def probability(self, batch: Batch, tracks: Ints) -> Floats:
        top = self._top()
        return np.isin(tracks, top) / max(len(top), 1)

    def rank(self, batch: Batch, k: int) -> Ranking:
        """Return the top in its order, the same for each request."""
        ranking, top = Ranking.none(len(batch), k), self._longer_top(k)
        ranking.tracks[:, : len(top)] = top
        ranking.scores[:, : len(top)] = -np.arange(len(top))
        return ranking


REFRESH_S = 1.0


class PopularTracks:
    """The most popular tracks (half-life: a day), at most `REFRESH_S` old; the clock counts monotonic seconds."""

    def __init__(self, reader: StateReader, clock: Callable[[], float], count: int = 100) -> None:
        self._reader, self._clock, self._count = reader, clock, count
        self._top = np.empty(0, dtype=np.int64)
        self._read_at = -math.inf

    def __call__(self) -> Ints:
        """Return the top tracks, best first; empty before the first listen."""
        now = self._clock()
        if now - self._read_at >= REFRESH_S:
            with contextlib.suppress(*REDIS_ERRORS):  # the previous top serves until Redis answers
                self._top = self._reader.top_tracks("1d", self._count).tracks
            self._read_at = now
        return self._top


class StickyArtist:
    """A track of the artist just heard, drawn uniformly.

    It may be the track just heard.

    Examples
    --------
    >>> from botify.schemas.events import RecommendationRequest, Track
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
            return Answers.none(len(batch))
        artists = catalogue.artist_of[rows]  # a row of -1 picks some artist, and is masked below
        sizes = catalogue.artist_size[artists]
        drawn = catalogue.by_artist[
            catalogue.artist_start[artists] + integers(batch.keys, RandomStream.STICKY_ARTIST, sizes)
        ]
        known = rows >= 0
        return Answers(np.where(known, catalogue.tracks[drawn], NO_ANSWER), np.where(known, 1.0 / sizes, 0.0), sizes)

    def probability(self, batch: Batch, tracks: Ints) -> Floats:
        same, sizes = _of_same_artist(batch.tracks, tracks, self._catalogue)
        return np.where(same, 1.0 / sizes, 0.0)

    def rank(self, batch: Batch, k: int) -> Ranking:
        rows = self._catalogue.rows_of(batch.tracks)
        known = np.flatnonzero(rows >= 0)
        of_artist = tracks_of(known, self._catalogue.artist_of[rows[known]], np.zeros(len(known)), self._catalogue)
        return best_of_candidates(of_artist, len(batch), k, self._catalogue)

    def because(self, batch: Batch, tracks: Ints) -> Ints:
        return np.full(len(tracks), batch.tracks[0])


def _of_same_artist(heard: Ints, tracks: Ints, catalogue: Catalogue) -> tuple[NDArray[np.bool_], Ints]:
    """Return which tracks are of the artist of those heard, all known, and how many tracks that artist has."""
    rows, others = catalogue.rows_of(heard), catalogue.rows_of(tracks)
    artists = catalogue.artist_of[rows]
    return (rows >= 0) & (others >= 0) & (artists == catalogue.artist_of[others]), catalogue.artist_size[artists]


PLEASED = 0.3  # fraction from which on the artist is kept


class StickyArtistMixed:
    """Another track of the artist just heard if the last one was liked, else any track.

    The track just heard is drawn again only if it is the artist's only one.
    """

    name = "sticky_artist_mixed"
    fallback: str | None = "random"

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._random = RandomTracks(catalogue)
        self._place = np.empty(len(catalogue), dtype=np.int32)  # row -> place among its artist's tracks
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

    def probability(self, batch: Batch, tracks: Ints) -> Floats:
        pleased = np.array([request.fraction >= PLEASED for request in batch.requests], dtype=np.bool_)
        sticks = pleased & (self._catalogue.rows_of(batch.tracks) >= 0)
        same, sizes = _of_same_artist(batch.tracks, tracks, self._catalogue)
        of_artist = same & ((tracks != batch.tracks) | (sizes == 1))
        return np.where(sticks, of_artist / np.maximum(sizes - 1, 1), self._random.probability(batch, tracks))


ARTISTS = 4  # how many of the best artists are considered; all tracks of the first may have been heard


class StickyNoRepeat:
    """An unheard track of the session's best artist.

    That is the artist of whose listens the session heard most on average, among those with unheard tracks. It needs no
    model, and is the fallback of the learned recommenders.
    """

    name = "sticky_norepeat"
    fallback: str | None = "random"

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def recommend(self, batch: Batch) -> Answers:
        """Draw for each request; no answer if all tracks of the session's artists were heard."""
        size, offered = len(batch), self._offered(batch)
        sizes = np.bincount(offered.sessions, minlength=size)
        there = sizes > 0
        starts = (np.cumsum(sizes) - sizes)[there]
        drawn = starts + integers(batch.keys[there], RandomStream.STICKY_NOREPEAT, sizes[there])
        tracks = np.full(size, NO_ANSWER)
        tracks[there] = self._catalogue.tracks[offered.rows[drawn]]
        return Answers(tracks, np.divide(1.0, sizes, out=np.zeros(size), where=there), sizes)

    def probability(self, batch: Batch, tracks: Ints) -> Floats:
        offered = self._offered(batch)
        sizes = np.bincount(offered.sessions, minlength=len(batch))
        hits = offered.sessions[self._catalogue.tracks[offered.rows] == tracks[offered.sessions]]
        there = np.bincount(hits, minlength=len(batch)) > 0
        return np.divide(1.0, sizes, out=np.zeros(len(batch)), where=there)

    def rank(self, batch: Batch, k: int) -> Ranking:
        return best_of_candidates(self._offered(batch), len(batch), k, self._catalogue)

    def because(self, batch: Batch, tracks: Ints) -> Ints:
        """Return the listen of the artist that the session heard most of."""
        so_far, catalogue = sessions_so_far(batch, self._catalogue), self._catalogue
        heard, fractions = so_far.rows[so_far.valid], so_far.fractions[so_far.valid]
        same = catalogue.artist_of[heard][:, None] == catalogue.artist_of[catalogue.rows_of(tracks)]
        return most_of(same * (1.0 + fractions)[:, None], catalogue.tracks[heard])

    def _offered(self, batch: Batch) -> Candidates:
        """Return the unheard tracks of each session's best artist that has any, by session and row, with its value."""
        catalogue, so_far = self._catalogue, sessions_so_far(batch, self._catalogue)
        session, column = np.nonzero(so_far.valid)
        rows = so_far.rows[session, column]
        artists = len(catalogue.artists)
        keys, group = np.unique(session * artists + catalogue.artist_of[rows], return_inverse=True)
        values = np.bincount(group, so_far.fractions[session, column]) / np.bincount(group)
        sessions = keys // artists
        order = np.lexsort((-values, sessions))
        best = order[earlier_of_key(sessions[order]) < ARTISTS]
        offered = unheard(tracks_of(sessions[best], keys[best] % artists, values[best], catalogue), so_far, catalogue)
        most = np.zeros(len(so_far))
        np.maximum.at(most, offered.sessions, offered.scores)
        return offered.where(offered.scores == most[offered.sessions])
