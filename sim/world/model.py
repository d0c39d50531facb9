"""A world in memory: arrays that were checked when they were read."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Details(NamedTuple):
    """What some catalogues tell of a track besides its genre."""

    mood: str
    year: int
    country: str


@dataclass(frozen=True, slots=True)
class WorldCatalogue:
    """The tracks; a track's id is its row."""

    embeddings: NDArray[np.float32]  # shape (tracks, dimensions); hidden from recommenders
    artist_of: NDArray[np.int32]  # shape (tracks,); index into `artists` and `genres`; a genre of -1 is unknown
    genre_of: NDArray[np.int32]
    # shape (tracks,); number of the group of artists who sound alike, -1 where there is none. Hidden from recommenders.
    scene_of: NDArray[np.int32]
    duration_ms: NDArray[np.int32]  # shape (tracks,)
    artists: tuple[str, ...]
    genres: tuple[str, ...]
    albums: tuple[str | None, ...]  # one for each track
    titles: tuple[str, ...]
    details: tuple[Details, ...] = ()  # one for each track, or none at all

    def __len__(self) -> int:
        return len(self.titles)

    @property
    def dimensions(self) -> int:
        return int(self.embeddings.shape[1])


@dataclass(frozen=True, slots=True)
class Listeners:
    """The listeners, hidden from recommenders; a listener's id is their row."""

    interests: NDArray[np.int32]  # shape (users, interests); tracks
    # shape (users, interests, most); the tracks nearest to each interest by inner product, nearest first
    neighbours: NDArray[np.int32]
    interest_neighbours: NDArray[np.int32]  # shape (users,); number of `neighbours` that a session may start at
    consume_bias: NDArray[np.float64]  # shape (users,)
    consume_sharpness: NDArray[np.float64]
    artist_discount_gamma: NDArray[np.float64]
    session_budget: NDArray[np.int32]  # shape (users,)
    # shape (users, interests, dimensions); what each interest looks for; None: the vector of its track
    tastes: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.interests)


@dataclass(frozen=True, slots=True)
class World:
    """A catalogue and its listeners."""

    name: str  # first hexadecimal digits of the hash of the world's sources
    catalogue: WorldCatalogue
    listeners: Listeners
    about: dict[str, Any]  # settings of a generated world, or the files of an imported one


_BLOCK = 256
_GROUP = 128
_SCORES = 1 << 25  # inner products in memory at a time, 128 MB


def nearest(embeddings: NDArray[np.float32], to: NDArray[np.float32], count: int) -> NDArray[np.int32]:
    """Find the `count` tracks of the greatest inner product with some vectors, shape (n, count), nearest first.

    Only the groups of columns with the greatest maxima are sorted: a track among the `count` best is in one of the
    `count` groups with the best tracks, so the answer is exact. Ties are in order of the track's id.
    """
    total = len(embeddings)
    groups = -(-total // _GROUP)
    found = np.empty((len(to), count), dtype=np.int32)
    block = max(1, min(_BLOCK, _SCORES // max(total, 1), len(to)))
    scores = np.full((block, groups * _GROUP), -np.inf, dtype=np.float32)
    for start in range(0, len(to), block):
        chunk = to[start : start + block]
        rows = scores[: len(chunk)]
        np.matmul(chunk, embeddings.T, out=rows[:, :total])
        found[start : start + len(chunk)] = _best_columns(rows, groups, count)
    return found


def _best_columns(scores: NDArray[np.float32], groups: int, count: int) -> NDArray[np.int32]:
    grouped = scores.reshape(len(scores), groups, _GROUP)
    maxima = grouped.max(axis=2)
    kept = min(count, groups)
    # sorted, so that equal scores keep the order of their ids
    best_groups = np.sort(np.argpartition(-maxima, kept - 1, axis=1)[:, :kept], axis=1)
    columns = (best_groups[:, :, None] * _GROUP + np.arange(_GROUP)).reshape(len(scores), -1)
    candidates = np.take_along_axis(scores, columns, axis=1)
    order = np.argsort(-candidates, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(columns, order, axis=1).astype(np.int32)
