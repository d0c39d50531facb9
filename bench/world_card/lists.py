"""Lists that are learned from a log of `random`, as the course's participants learned theirs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from botify.services.lists.neighbours import ListenColumns, Neighbours, find_neighbours, make_user_lists
from botify.services.recommender.lists import NO_TRACK
from botify.sim.agents import DummyAgent
from botify.sim.listeners.model import Ints
from botify.sim.options import RunOptions
from botify.sim.play import play_world
from botify.sim.simulation import FinishedListens
from botify.sim.world.model import World, nearest

LOG_SEED = 0x6C6F67
"""Seed of the sessions of the log, which differ from the measured ones."""
LIKED = 0.4
"""A listen is liked if this much more of it was heard than of the listener's average one."""
NEIGHBOURS, PER_USER, PER_GENRE, GENRES = 50, 100, 25, 8
"""Lengths of a track's list, a listener's, a listener's in a genre; and the genres that a listener switches among."""


class Log(NamedTuple):
    """Listens of `random`, columns of equal length."""

    users: Ints
    tracks: Ints
    fractions: NDArray[np.float64]
    time_ms: Ints

    @classmethod
    def of(cls, world: World, sessions: int) -> Log:
        """Play so many sessions."""
        parts: list[FinishedListens] = []
        options = RunOptions(sessions=sessions, seed=LOG_SEED, start_ms=0)
        play_world(world, DummyAgent(world.catalogue, LOG_SEED), options, listener=parts.append)
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls._fields))

    def liked(self) -> Log:
        """Return the liked listens, with what more was heard of them than on average as fractions."""
        average = np.bincount(self.users, self.fractions) / np.maximum(np.bincount(self.users), 1)
        more = self.fractions - average[self.users]
        liked = more > LIKED
        return Log(self.users[liked], self.tracks[liked], more[liked], self.time_ms[liked])


def neighbours_of(liked: Log) -> Neighbours:
    """Find the tracks that the same listeners liked, by cosine (`botify.services.lists`)."""
    return find_neighbours(liked.users.astype(np.uint64), liked.tracks, liked.fractions, NEIGHBOURS)


def by_track(found: Neighbours, tracks: int) -> Ints:
    """Return a list for each track, shape (tracks, NEIGHBOURS)."""
    lists = np.full((tracks, NEIGHBOURS), NO_TRACK, dtype=np.int64)
    lists[found.tracks] = found.lists
    return lists


def by_user(log: Log, found: Neighbours, users: int) -> Ints:
    """Return a list for each listener, shape (users, PER_USER), made by the batch job of `botify.services.lists`."""
    numbers = np.arange(len(log.users), dtype=np.uint64)
    columns = ListenColumns(numbers, numbers, log.users, log.tracks, log.fractions, log.time_ms)
    return make_user_lists(columns, found, PER_USER).of(np.arange(users))[0]


def by_user_and_genre(liked: Log, found: Neighbours, users: int, genre_of: NDArray[np.integer]) -> tuple[Ints, Ints]:
    """Return the best tracks of each listener in each genre, and each listener's genres, best first.

    The score of a track is what the listener liked, and what is similar to it: one step of a factorisation.

    Returns
    -------
    lists : ndarray of int64, shape (users, genres, PER_GENRE)
    genres : ndarray of int64, shape (users, GENRES)
    """
    tracks, genres = len(genre_of), int(genre_of.max()) + 1
    listed = found.lists != NO_TRACK
    of = np.broadcast_to(found.tracks[:, None], listed.shape)[listed]
    similar = sparse.csr_array((found.similarities[listed], (of, found.lists[listed])), shape=(tracks, tracks))
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


YEARS = 5
"""Years that count as one time."""


def by_content(world: World) -> Ints:
    """Return a list for each track of those whose genre, mood, time and country are most alike (TF-IDF, cosine).

    Returns
    -------
    ndarray of int64, shape (tracks, NEIGHBOURS)
    """
    catalogue = world.catalogue
    moods, years, countries = zip(*catalogue.details, strict=True)
    columns = catalogue.genre_of, moods, np.array(years) // YEARS, countries
    features = []
    for column in columns:
        _, value_of, counts = np.unique(np.asarray(column), return_inverse=True, return_counts=True)
        features.append(np.eye(len(counts))[value_of] * np.log(len(catalogue) / counts)[value_of][:, None])
    vectors = np.hstack(features)
    # a little noise, so that tracks of which the catalogue tells the same are in no order
    vectors += np.random.default_rng(LOG_SEED).normal(scale=1e-3, size=vectors.shape)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    directions = vectors.astype(np.float32)
    found = nearest(directions, directions, NEIGHBOURS + 1).astype(np.int64)
    own = found == np.arange(len(found))[:, None]
    own[~own.any(axis=1), -1] = True
    lists: Ints = found[~own].reshape(len(found), NEIGHBOURS)
    return lists
