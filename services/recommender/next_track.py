"""`next_track`: what is played next by the model of that name, with no rule of a domain.

The model ranks the listener's history: the last listens that the state has, with the current session from its first
track on (as far as the state has it), and the listen of the request. Nothing of this history is a candidate, so unlike
other recommenders this one does not repeat what earlier sessions heard.

Tracks that the request says were on the screen lately, and not heard since, count as the model has learned.

The answer is the first of the `BEST` best candidates, or with probability `EXPLORE` one of them drawn uniformly. A
listener of whom the model knows no track gets what is popular. Without a snapshot there is no answer.

The newest tracks of the catalogue that the model does not know yet are ranked by the tracks that share their artist or
genre, or are of similar content. The scores of the model's best tracks are logarithms of chances, up to a constant; a
track that the model does not know gets the mean chance of the tracks of its artist, or of its genre if that is more.
With a content vector, in place of the genre's it is the mean of all tracks, weighted by how similar their vectors are
(Nadaraya-Watson). Tracks that are not among the best count as 0, so a large genre says little.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from botify.core.keyed_random import uniform
from botify.schemas.sketches import COSINES, Words, differing
from botify.services.recommender.candidates import most_of
from botify.services.recommender.catalogue import Catalogue, Integers
from botify.services.recommender.protocol import NO_ANSWER, Answers, Batch, Because, Floats, Ints, RandomStream, Ranking
from botify.services.recommender.rerank import EXPLORE
from botify.services.recommender.sessions import histories_of
from botify.streams.learner.models.next_track import Impressions, NextTrack
from botify.streams.learner.models.next_track_projection import values_of

NEWEST = 128
"""Tracks with the highest ids; only they may be ranked before they were played, so that the cost is bounded."""
EVIDENCE = 20  # best tracks of a ranking whose chances count
ALIKE = np.maximum(COSINES, 0.0) ** 4
"""The weight of a track, by how many bits of two sketches differ. Of the powers 1 to 20, the lowest rank new films best
on the validation part of MovieLens; 1 and 2 would say little where all vectors lie in a narrow cone."""
MOST_WEIGHED = 4_096  # of a larger catalogue, tracks at equal distances stand for all


class Groups(NamedTuple):
    """The artists, or the genres, of n tracks, of which m are different."""

    column_of: Ints  # shape (all groups,): the column of each group that one of the tracks has, and m for the others
    columns: Ints  # shape (n,): that of each track
    sizes: Floats  # shape (n,): the number of tracks of its group, infinite where it is of no group

    @classmethod
    def of(cls, groups: Integers, sizes: Floats) -> Self:
        """Give the groups of some tracks their columns; `sizes` are those of all groups."""
        distinct, columns = np.unique(groups, return_inverse=True)
        column_of = np.full(len(sizes), len(distinct), dtype=np.int64)
        column_of[distinct] = np.arange(len(distinct))
        return cls(column_of, columns, sizes[groups])

    def means(self, chances: Floats, groups: Integers) -> Floats:
        """Return the mean chance of each track's group, shape (b, n), given tracks of some groups, both (b, w)."""
        width = int(self.columns.max(initial=0)) + 2
        cells = self.column_of[groups] + np.arange(0, width * len(groups), width)[:, None]
        sums = np.bincount(cells.ravel(), chances.ravel(), width * len(groups)).reshape(-1, width)
        means: Floats = sums[:, self.columns] / self.sizes
        return means


class Unknown(NamedTuple):
    """Fresh tracks that a model does not know, shape (n,), and their company."""

    tracks: Ints
    artists: Groups
    genres: Groups
    sketches: Words | None  # shape (n, 2)
    weights: Floats  # shape (n,): sum of the weights of all tracks of the catalogue; infinite without a content vector


class FreshTracks:
    """The newest tracks of a catalogue whose artist or genre other tracks have, or that have a content vector.

    `tracks` are at most `NEWEST`; none where the catalogue tells tracks apart by their names only.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._artist_size = catalogue.artist_size.astype(np.float64)
        self._genre_size = np.bincount(catalogue.genre_of, minlength=len(catalogue.genres)).astype(np.float64)
        if None in catalogue.genres:
            self._genre_size[catalogue.genres.index(None)] = np.inf
        rows = np.arange(max(0, len(catalogue) - NEWEST), len(catalogue))
        in_genre = self._genre_size[catalogue.genre_of[rows]]
        has_company = (self._artist_size[catalogue.artist_of[rows]] > 1) | ((in_genre > 1) & np.isfinite(in_genre))
        if catalogue.sketches is not None:
            has_company |= catalogue.sketches[rows].any(axis=1)
        self.tracks: Ints = catalogue.tracks[rows[has_company]]
        self._asked: NextTrack | None = None
        self._unknown = self._of(self.tracks)

    def unknown_to(self, model: NextTrack) -> Unknown:
        """Return the tracks that a model does not know; the model of a snapshot, which no longer learns."""
        if model is not self._asked:
            self._asked, self._unknown = model, self._of(self.tracks[~model.knows(self.tracks)])
        return self._unknown

    def insert(self, ranking: Ranking, unknown: Unknown, excluded: NDArray[np.bool_], k: int) -> Ranking:
        """Rank some of the n unknown tracks among those of a ranking, shape (b, w), and return the k best.

        The first `EVIDENCE` of the ranking count. `excluded`, shape (b, n), marks tracks that a request must not get.
        """
        best = ranking.scores[:, :1]
        best = np.where(np.isfinite(best), best, 0.0)
        chances = np.exp(ranking.scores[:, :EVIDENCE] - best)
        # row -1, of no track, has the chance 0
        rows = self._catalogue.rows_of(ranking.tracks[:, :EVIDENCE].ravel()).reshape(chances.shape)
        by_artist = unknown.artists.means(chances, self._catalogue.artist_of[rows])
        alike = unknown.genres.means(chances, self._catalogue.genre_of[rows])
        if unknown.sketches is not None:
            alike = np.where(np.isfinite(unknown.weights), self._by_content(chances, rows, unknown), alike)
        chance = np.maximum(by_artist, alike)
        chance[excluded] = 0.0
        with np.errstate(divide="ignore"):
            added = np.log(chance) + best
        scores = np.concatenate([ranking.scores, added], axis=1)
        both = np.concatenate([ranking.tracks, np.where(chance > 0, unknown.tracks, NO_ANSWER)], axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return Ranking(np.take_along_axis(both, order, axis=1), np.take_along_axis(scores, order, axis=1))

    def _by_content(self, chances: Floats, rows: Ints, unknown: Unknown) -> Floats:
        """Return the mean chance of the tracks, weighted by similarity, for each of n unknown tracks, shape (b, n)."""
        distinct, columns = np.unique(rows, return_inverse=True)
        alike = self._alike(distinct, unknown.sketches)
        sums = np.zeros((len(rows), len(unknown.tracks)))
        for column, chance in zip(columns.reshape(rows.shape).T, chances.T, strict=True):
            sums += chance[:, None] * alike[column]  # not a product of matrices: its last bits depend on the batch
        means: Floats = sums / unknown.weights
        return means

    def _alike(self, rows: Ints, sketches: Words | None) -> Floats:
        """Return the weight of each of m rows for each of n sketches, shape (m, n); 0 for one that has none."""
        if self._catalogue.sketches is None or sketches is None:
            return np.zeros((len(rows), 0))
        of_rows = self._catalogue.sketches[rows]
        known = of_rows.any(axis=1) & (rows >= 0)
        return np.where(known[:, None], ALIKE[differing(of_rows, sketches)], 0.0)

    def _of(self, tracks: Ints) -> Unknown:
        catalogue, rows = self._catalogue, self._catalogue.rows_of(tracks)
        sketches, weights = None, np.zeros(len(tracks))
        if catalogue.sketches is not None and catalogue.sketches[rows].any():
            sketches, every = catalogue.sketches[rows], -(-len(catalogue) // MOST_WEIGHED)
            weights = every * self._alike(np.arange(0, len(catalogue), every), sketches).sum(axis=0)
            weights = np.where(sketches.any(axis=1), np.maximum(weights, 1.0), np.inf)
        return Unknown(
            tracks,
            Groups.of(catalogue.artist_of[rows], self._artist_size),
            Groups.of(catalogue.genre_of[rows], self._genre_size),
            sketches,
            weights,
        )


BEST = 20

LatestNextTrack = Callable[[], NextTrack | None]  # returns the model of the newest snapshot; None before the first


class NextTrackRecommender:
    """Best of what the model says is next.

    `model` returns that of the newest snapshot, or None; tracks that are not in the catalogue are not answered.
    """

    name = NextTrack.name
    fallback: str | None = "toppop"

    def __init__(self, catalogue: Catalogue, model: LatestNextTrack) -> None:
        self._catalogue = catalogue
        self._model = model
        self._fresh = FreshTracks(catalogue)
        self._ranked_by: NextTrack | None = None

    def recommend(self, batch: Batch) -> Answers:
        ranking = self.rank(batch, BEST)
        found: Ints = (ranking.tracks != NO_ANSWER).sum(axis=1)
        if not found.any():
            return Answers.none(len(batch))
        explores = uniform(batch.keys, RandomStream.EXPLORE) < EXPLORE
        drawn = (uniform(batch.keys, RandomStream.EXPLORED_TRACK) * found).astype(np.int64)
        places = np.where(explores, drawn, 0)
        chances = np.where(found > 0, _propensities(places, found), 0.0)
        return Answers(ranking.tracks[np.arange(len(batch)), places], chances, found)

    def probability(self, batch: Batch, tracks: Ints) -> Floats:
        ranked = self.rank(batch, BEST).tracks
        hits, found = ranked == tracks[:, None], (ranked != NO_ANSWER).sum(axis=1)
        return np.where(hits.any(axis=1) & (tracks != NO_ANSWER), _propensities(hits.argmax(axis=1), found), 0.0)

    def rank(self, batch: Batch, k: int) -> Ranking:
        model = self._ranked_by = self._model()
        if model is None or not len(batch):
            return Ranking.none(len(batch), k)
        heard = histories_of(batch)
        fresh = self._fresh.unknown_to(model)
        width = max(k, EVIDENCE) if len(fresh.tracks) else k
        tracks, scores = model.rank_histories(
            heard.tracks,
            values_of(heard.fractions),
            heard.lengths,
            width,
            times_ms=heard.times_ms,
            asked_ms=heard.asked_ms,
            among=None if batch.allowed is None else self._catalogue.tracks[batch.allowed],
            shown=_impressions_of(batch),
        )
        unknown = self._catalogue.rows_of(tracks.ravel()).reshape(tracks.shape) < 0
        if unknown.any():
            order = np.argsort(unknown, axis=1, kind="stable")
            unknown = np.take_along_axis(unknown, order, axis=1)
            tracks, scores = np.take_along_axis(tracks, order, axis=1), np.take_along_axis(scores, order, axis=1)
        ranking = Ranking(np.where(unknown, NO_ANSWER, tracks), np.where(unknown, -np.inf, scores.astype(np.float64)))
        if not len(fresh.tracks):
            return ranking
        return self._fresh.insert(ranking, fresh, heard.contain(fresh.tracks), k)

    def because(self, batch: Batch, tracks: Ints) -> Ints:
        """Return what of the history speaks most for each track; without any it is popular, or new to the model."""
        model, heard = self._ranked_by, histories_of(batch)
        if model is None:
            return np.full(len(tracks), NO_ANSWER)
        found = most_of(model.evidence(heard.tracks, values_of(heard.fractions), tracks), heard.tracks)
        without = np.where(model.knows(tracks), Because.POPULAR, Because.NEW)
        return np.where(found == NO_ANSWER, without, found)


def _impressions_of(batch: Batch) -> Impressions | None:
    """Return what the listeners were shown, as far as the requests say; None if they say nothing."""
    asked = [request.slate for request in batch.requests]
    tracks = [[] if one is None else one["impressions"] for one in asked]
    if not any(tracks):
        return None
    times_ms = [[] if one is None else one["impressions_ms"] for one in asked]
    lengths = [len(some) for some in tracks]
    return Impressions(_flat(tracks), _flat(times_ms), np.array(lengths, dtype=np.int64))


def _flat(lists: Sequence[Sequence[int]]) -> Ints:
    return np.array([number for some in lists for number in some], dtype=np.int64)


def _propensities(places: Ints, found: Ints) -> Floats:
    """Return the probability of each place of a ranking of so many tracks."""
    chances: Floats = EXPLORE / np.maximum(found, 1) + np.where(places == 0, 1 - EXPLORE, 0.0)
    return chances
