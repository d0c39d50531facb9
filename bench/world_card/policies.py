"""Policies that the course and its participants published, vectorised, and the lists that they learn from a log.

They are agents of the simulator without Kafka. They see what a recommender sees, except `ByGroup` where its group is
the hidden scene.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from botify.bench.simulated import CARD_SEED, COUNT, RandomLog
from botify.services.lists.build import SIMILARITY_STEPS, listed
from botify.services.recommender.lists import NO_TRACK
from botify.sim.listeners.model import Ints
from botify.sim.simulation import FinishedListens
from botify.sim.world.model import World, nearest

SLOTS = 2_000  # sessions at the same time, as in `RunOptions`
RECENT = 10  # listens of a session that item-to-item anchors are drawn from, as in the course


def draw(lists: Ints, rng: np.random.Generator, tracks: int) -> Ints:
    """Draw one of each row's tracks uniformly, or any track where the row, which ends with `NO_TRACK`, has none."""
    sizes = (lists != NO_TRACK).sum(axis=1)
    drawn = lists[np.arange(len(lists)), rng.integers(np.maximum(sizes, 1))]
    return np.asarray(np.where(sizes > 0, drawn, rng.integers(tracks, size=len(lists))))


class _Stateless:
    def finish(self, heard: FinishedListens) -> None:
        """Do nothing."""


class ByGroup(_Stateless):
    """Any track of the group of the last track: of its artist (`sticky_artist`), its genre or its scene."""

    def __init__(self, group_of: NDArray[np.integer], seed: int) -> None:
        self._group_of = group_of
        self._in_order = np.argsort(group_of, kind="stable")
        self._sizes = np.bincount(group_of)
        self._first = np.cumsum(self._sizes) - self._sizes
        self._rng = np.random.default_rng(seed)

    def recommend(self, heard: FinishedListens) -> Ints:
        groups = self._group_of[heard.tracks]
        return np.asarray(self._in_order[self._first[groups] + self._rng.integers(self._sizes[groups])])


class TopPop(_Stateless):
    def __init__(self, time_of_track: NDArray[np.float64], seed: int, count: int = 100) -> None:
        self._top = np.argsort(-time_of_track)[:count]
        self._rng = np.random.default_rng(seed)

    def recommend(self, heard: FinishedListens) -> Ints:
        return self._rng.choice(self._top, size=len(heard))


class FromLists(_Stateless):
    """Any of the first `count` of the list of the last track, or of the listener; any track where there is no list."""

    def __init__(self, lists: Ints, seed: int, tracks: int, *, by: str = "tracks", count: int | None = None) -> None:
        self._lists = lists[:, :count]
        self._rng = np.random.default_rng(seed)
        self._tracks = tracks
        self._by = by

    def recommend(self, heard: FinishedListens) -> Ints:
        return draw(self._lists[getattr(heard, self._by)], self._rng, self._tracks)


class ByGenre(_Stateless):
    """A listener's own list, (users, genres, k), of the session's genre; a skip switches to the next best genre."""

    SKIPPED = 0.3

    def __init__(self, lists: Ints, genres: Ints, genre_of: NDArray[np.integer], seed: int) -> None:
        self._lists, self._genres, self._genre_of = lists, genres, genre_of
        self._rng = np.random.default_rng(seed)
        self._genre = np.zeros(SLOTS, dtype=np.int64)
        self._switches = np.zeros(SLOTS, dtype=np.int64)

    def recommend(self, heard: FinishedListens) -> Ints:
        starts = heard.positions == 0
        slots = heard.slots[starts]
        self._genre[slots], self._switches[slots] = self._genre_of[heard.tracks[starts]], 0
        skipped = ~starts & (heard.fractions < self.SKIPPED)
        slots = heard.slots[skipped]
        self._genre[slots] = self._genres[heard.users[skipped], self._switches[slots] % self._genres.shape[1]]
        self._switches[slots] += 1
        lists = self._lists[heard.users, self._genre[heard.slots]]
        return draw(lists, self._rng, len(self._genre_of))


class _Remembering(_Stateless):
    """Remembers what each session has heard; `tracks` and `fractions` have a row for each slot, latest first."""

    def __init__(self, room: int) -> None:
        self._tracks = np.full((SLOTS, room), NO_TRACK, dtype=np.int64)
        self._fractions = np.zeros((SLOTS, room))

    def _remember(self, heard: FinishedListens) -> tuple[Ints, NDArray[np.float64]]:
        slots = heard.slots
        starts = slots[heard.positions == 0]
        self._tracks[starts], self._fractions[starts] = NO_TRACK, 0.0
        for memory, new in ((self._tracks, heard.tracks), (self._fractions, heard.fractions)):
            memory[slots, 1:] = memory[slots, :-1]
            memory[slots, 0] = new
        return self._tracks[slots], self._fractions[slots]


class SampledAnchor(_Remembering):
    """The first unheard neighbour of one of the last ten tracks, drawn by how much of it was heard, or any track."""

    def __init__(self, lists: Ints, seed: int) -> None:
        super().__init__(RECENT)
        self._lists = lists[:, : RECENT + 1]
        self._rng = np.random.default_rng(seed)

    def recommend(self, heard: FinishedListens) -> Ints:
        tracks, fractions = self._remember(heard)
        neighbours = np.where(tracks[:, :, None] == NO_TRACK, NO_TRACK, self._lists[tracks])
        heard_before = (neighbours[..., None] == tracks[:, None, None, :]).any(axis=-1)
        usable = (neighbours != NO_TRACK) & ~heard_before
        first = np.take_along_axis(neighbours, usable.argmax(axis=2)[..., None], axis=2)[..., 0]
        bounds = np.cumsum(np.where(usable.any(axis=2), fractions, 0.0), axis=1)
        anchors = (bounds > self._rng.random(len(heard))[:, None] * bounds[:, -1:]).argmax(axis=1)
        anything = self._rng.integers(len(self._lists), size=len(heard))
        return np.where(bounds[:, -1] > 0, first[np.arange(len(heard)), anchors], anything)


class BestAnchor(_Remembering):
    """The first neighbour, of an artist not heard yet, of the longest heard track that has one, or any track."""

    def __init__(self, lists: Ints, artist_of: NDArray[np.integer], seed: int) -> None:
        super().__init__(4 * RECENT)
        self._lists = lists
        self._artist_of = np.append(artist_of, NO_TRACK).astype(np.int64)  # the last is that of NO_TRACK
        self._rng = np.random.default_rng(seed)

    def recommend(self, heard: FinishedListens) -> Ints:
        tracks, fractions = self._remember(heard)
        artists = self._artist_of[tracks]
        answers = self._rng.integers(len(self._lists), size=len(heard))
        open_ = np.arange(len(heard))
        for anchors in np.argsort(-fractions, axis=1, kind="stable").T[:RECENT]:
            anchor = tracks[open_, anchors[open_]]
            neighbours = np.where(anchor[:, None] == NO_TRACK, NO_TRACK, self._lists[anchor])
            new = (self._artist_of[neighbours][..., None] != artists[open_][:, None, :]).all(axis=2)
            usable = new & (neighbours != NO_TRACK)
            found = usable.any(axis=1)
            best = np.take_along_axis(neighbours, usable.argmax(axis=1)[:, None], axis=1)[:, 0]
            answers[open_[found]] = best[found]
            open_ = open_[~found]
        return answers


PER_GENRE, GENRES = 25, 8  # length of a listener's list in a genre, and the genres that a listener switches among


def by_track(found: pd.DataFrame, tracks: int) -> Ints:
    return listed(found, every := np.arange(tracks), COUNT).of(every)[0]


def by_user_and_genre(
    liked: RandomLog, found: pd.DataFrame, users: int, genre_of: NDArray[np.integer]
) -> tuple[Ints, Ints]:
    """Return lists, (users, genres, PER_GENRE), and each listener's genres, best first: a step of a factorisation."""
    tracks, genres = len(genre_of), int(genre_of.max()) + 1
    similarities = found["similarity"] / SIMILARITY_STEPS
    similar = sparse.csr_array((similarities, (found["key"], found["track"])), shape=(tracks, tracks))
    likes = sparse.csr_array((liked.fractions, (liked.users, liked.tracks)), shape=(users, tracks))
    scores = (likes @ similar + likes).tocoo()
    rows = scores.row * genres + genre_of[scores.col]
    order = np.lexsort((scores.col, -scores.data, rows))
    rows, columns, values = rows[order], scores.col[order], scores.data[order]
    rank = np.arange(len(rows)) - np.searchsorted(rows, rows)
    lists = np.full((users * genres, PER_GENRE), NO_TRACK, dtype=np.int64)
    best = rank < PER_GENRE
    lists[rows[best], rank[best]] = columns[best]
    liking = np.bincount(rows, values, users * genres).reshape(users, genres)
    return lists.reshape(users, genres, PER_GENRE), np.argsort(-liking, axis=1)[:, :GENRES]


YEARS = 5  # years that count as one time


def by_content(world: World) -> Ints:
    """Return a list for each track of those whose genre, mood, time and country are most alike (TF-IDF, cosine)."""
    catalogue = world.catalogue
    moods, years, countries = zip(*catalogue.details, strict=True)
    columns = catalogue.genre_of, moods, np.array(years) // YEARS, countries
    features = []
    for column in columns:
        _, value_of, counts = np.unique(np.asarray(column), return_inverse=True, return_counts=True)
        features.append(np.eye(len(counts))[value_of] * np.log(len(catalogue) / counts)[value_of][:, None])
    vectors = np.hstack(features)
    # a little noise, so that tracks of which the catalogue tells the same are in no order
    vectors += np.random.default_rng(CARD_SEED).normal(scale=1e-3, size=vectors.shape)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    directions = vectors.astype(np.float32)
    found = nearest(directions, directions, COUNT + 1).astype(np.int64)
    own = found == np.arange(len(found))[:, None]
    own[~own.any(axis=1), -1] = True
    return np.asarray(found[~own].reshape(len(found), COUNT))
