"""Projection `popularity` over columns: the scores of `Popularity`, with rows, tops and records by compiled code.

The best tracks of a half-life are a heap whose root is the worst of them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from botify.streams.folds.columns.ids import FEW_ROWS, RowsOfIds, at_least, first_of_each
from botify.streams.folds.columns.packing import pack_rows
from botify.streams.folds.popularity import TOP_TRACKS, Popularity, Rows, TrackRows, Tracks
from botify.streams.folds.projection import Bulk, Fields, PackedFields, ScoreChanges, Scores

Ints = NDArray[np.int64]

_ABSENT = -1


class Heap(NamedTuple):
    """The entries, the worst first, shape (size + 1,); `new` are those that the store does not have.

    `places` are of each row of the tracks; -1 for those that are not in the heap.
    """

    tracks: Ints
    rows: Ints
    scores: NDArray[np.float64]
    new: NDArray[np.bool_]
    places: NDArray[np.int32]


@njit(cache=True)
def _is_worse(heap: Heap, one: int, other: int) -> bool:
    if heap.scores[one] != heap.scores[other]:
        return bool(heap.scores[one] < heap.scores[other])
    return bool(heap.tracks[one] > heap.tracks[other])


@njit(cache=True)
def _swap(heap: Heap, one: int, other: int) -> None:
    heap.tracks[one], heap.tracks[other] = heap.tracks[other], heap.tracks[one]
    heap.rows[one], heap.rows[other] = heap.rows[other], heap.rows[one]
    heap.scores[one], heap.scores[other] = heap.scores[other], heap.scores[one]
    heap.new[one], heap.new[other] = heap.new[other], heap.new[one]
    heap.places[heap.rows[one]], heap.places[heap.rows[other]] = one, other


@njit(cache=True)
def _sink(heap: Heap, count: int, at: int) -> None:
    while True:
        worst = at
        for child in (2 * at + 1, 2 * at + 2):
            if child < count and _is_worse(heap, child, worst):
                worst = child
        if worst == at:
            return
        _swap(heap, at, worst)
        at = worst


@njit(cache=True)
def _rise(heap: Heap, at: int) -> None:
    while at > 0 and _is_worse(heap, at, (at - 1) // 2):
        _swap(heap, at, (at - 1) // 2)
        at = (at - 1) // 2


@njit(cache=True)
def update(
    heap: Heap,
    count: int,
    size: int,
    rows: np.ndarray,
    tracks: np.ndarray,
    scores: np.ndarray,
    left: np.ndarray,
    stays: np.ndarray,
) -> tuple[int, int]:
    """Take new scores of tracks, none twice and none lower than before; return the counts of entries and of leaves.

    `left` (int64, shape (size, 2)) is set to the tracks that have left, and their rows; `stays` (bool, shape (n,)) to
    whether a track is in the heap now. `_Top.update`.
    """
    leaves = 0
    for one in range(len(rows)):
        place = heap.places[rows[one]]
        if place == _ABSENT:
            place = count
            heap.tracks[place], heap.rows[place], heap.new[place] = tracks[one], rows[one], True
            heap.scores[place] = scores[one]
            if count < size:
                heap.places[rows[one]] = place
                count += 1
                _rise(heap, place)
                continue
            if size == 0 or _is_worse(heap, place, 0):
                continue
            if not heap.new[0]:
                left[leaves, 0], left[leaves, 1] = heap.tracks[0], heap.rows[0]
                leaves += 1
            heap.places[heap.rows[0]] = _ABSENT
            heap.tracks[0], heap.rows[0], heap.scores[0] = heap.tracks[place], heap.rows[place], heap.scores[place]
            heap.new[0], heap.places[rows[one]] = True, 0
            place = 0
        heap.scores[place] = scores[one]
        _sink(heap, count, place)
    for one in range(len(rows)):
        place = heap.places[rows[one]]
        stays[one] = place != _ABSENT
        if stays[one]:
            heap.new[place] = False
    kept = 0
    for one in range(leaves):  # those that have not come back
        if heap.places[left[one, 1]] == _ABSENT:
            left[kept, 0] = left[one, 0]
            kept += 1
    return count, kept


class TopHeap:
    """The best tracks by score; of equal scores the smaller track id is better."""

    def __init__(self, size: int) -> None:
        self._size, self._count = size, 0
        self._left = np.empty((size, 2), dtype=np.int64)
        numbers = np.zeros(size + 1, dtype=np.int64)  # one more than it keeps, for the one that is compared
        new, places = np.zeros(size + 1, dtype=np.bool_), np.full(FEW_ROWS, _ABSENT, dtype=np.int32)
        self._heap = Heap(numbers, numbers.copy(), np.zeros(size + 1), new, places)

    def update(self, rows: Ints, tracks: Ints, scores: NDArray[np.float64]) -> dict[bytes, float | None]:
        """Update scores of tracks, none twice and none lower than before; return the changes, None if it left."""
        places = self._heap.places
        if (most := int(rows.max(initial=0))) >= len(places):
            more = np.full(at_least(most + 1, len(places)) - len(places), _ABSENT, dtype=np.int32)
            self._heap = self._heap._replace(places=np.concatenate([places, more]))
        stays = np.empty(len(rows), dtype=np.bool_)
        self._count, leaves = update(self._heap, self._count, self._size, rows, tracks, scores, self._left, stays)
        changed: dict[bytes, float | None] = {
            b"%d" % track: score for track, score in zip(tracks[stays].tolist(), scores[stays].tolist(), strict=True)
        }
        for track in self._left[:leaves, 0].tolist():
            changed[b"%d" % track] = None
        return changed


class ColumnPopularity(Popularity):
    """Scores of the tracks heard in one partition; see `Popularity`."""

    def __init__(
        self, rows: TrackRows | None = None, top_tracks: int = TOP_TRACKS, *, nothing_stored: bool = False
    ) -> None:
        super().__init__(rows, top_tracks, nothing_stored=nothing_stored)
        if self._row_of.index is None:
            self._row_of.index = RowsOfIds()
        self._heaps = [TopHeap(top_tracks) for _ in self.score_sets]
        self._met = np.zeros(len(self._loaded), dtype=np.bool_)

    def load_scores(self, collection: str, values: Scores) -> None:
        """Load the top of a half-life."""
        tracks = np.array([int(member) for member in values], dtype=np.int64)
        rows, scores = self._rows(tracks), np.array([*values.values()], dtype=np.float64)
        self._heaps[self.score_sets.index(collection)].update(rows, tracks, scores)

    def _rows(self, tracks: Tracks) -> Rows:
        rows: Rows = self._row_of.index.of(tracks)[0]
        return rows

    def _count_rows(self) -> int:
        count: int = self._row_of.index.count
        return count

    def _update_tops(self, rows: Rows, tracks: Tracks, scores: NDArray[np.float64]) -> dict[str, ScoreChanges]:
        columns = np.ascontiguousarray(scores.T)
        return {
            name: top.update(rows, tracks, column)
            for name, top, column in zip(self.score_sets, self._heaps, columns, strict=True)
        }

    def _first_of_each(self, rows: Rows) -> NDArray[np.int64]:
        if len(self._met) < len(self._loaded):
            self._met = np.zeros(len(self._loaded), dtype=np.bool_)
        firsts = np.empty(len(rows), dtype=np.int64)
        return firsts[: first_of_each(rows, self._met, firsts)]

    @staticmethod
    def _fields(tracks: Tracks, scores: NDArray[np.float64]) -> Fields:
        rows = scores.view(np.uint8).reshape(len(scores), -1)
        return PackedFields(Bulk(2 * len(tracks), pack_rows(tracks, rows).tobytes()))
