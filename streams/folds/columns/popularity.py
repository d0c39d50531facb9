"""Projection `popularity` over columns; see `botify.streams.folds.popularity`.

The best tracks of a half-life are a heap whose root is the worst of them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from botify.streams.folds.columns.ids import FEW_ROWS, RowsOfIds, at_least, first_of_each
from botify.streams.folds.columns.packing import pack_rows
from botify.streams.folds.popularity import HALF_LIVES_MS, POPULARITY, TOP_TRACKS, TOPS, TrackRows
from botify.streams.folds.projection import Bulk, Changes, Fields, PackedFields, Scores

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
    whether a track is in the heap now. `Top.update` of the reference.
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


_FIRST_ROWS = 1024


class Popularity:
    """Scores of the tracks heard in one partition, for all half-lives at once.

    Scores are in dense arrays, 25 bytes a track, and read from the store when first needed, unless it has
    `nothing_stored`. `rows` is shared with the folds of other partitions.

    Examples
    --------
    >>> popularity = Popularity(nothing_stored=True)
    >>> popularity.missing(np.array([7]))
    {}
    >>> popularity.add(np.array([7]), np.array([0.5]), np.array([3_600_000]))
    >>> popularity.changes().scores["popularity:1h"]  # log2(0.5 · 2^1)
    {b'7': 0.0}
    """

    def __init__(
        self, rows: TrackRows | None = None, top_tracks: int = TOP_TRACKS, *, nothing_stored: bool = False
    ) -> None:
        shared = TrackRows() if rows is None else rows
        if shared.index is None:
            shared.index = RowsOfIds()
        self._row_of: RowsOfIds = shared.index
        self._nothing_stored = nothing_stored
        self._scores = np.full((_FIRST_ROWS, len(HALF_LIVES_MS)), -np.inf)
        self._loaded = np.zeros(_FIRST_ROWS, dtype=np.bool_)  # whether a row has what the store has
        self._met = np.zeros(_FIRST_ROWS, dtype=np.bool_)
        self._tops = {name: TopHeap(top_tracks) for name in TOPS}
        self._touched: list[tuple[Ints, Ints]] = []  # rows and tracks

    def missing(self, tracks: Ints) -> dict[str, list[bytes]]:
        """Return those of the tracks that are not in memory."""
        if self._nothing_stored:
            return {}
        rows = self._rows(tracks)  # may make room for more, so before what it makes room in is looked at
        missing = np.unique(tracks[~self._loaded[rows]]).tolist()
        return {POPULARITY: [b"%d" % track for track in missing]} if missing else {}

    def load_fields(self, values: Fields) -> None:
        rows = self._rows(np.array([int(field) for field in values], dtype=np.int64))
        self._loaded[rows] = True
        for row, record in zip(rows.tolist(), values.values(), strict=True):
            if record is not None:
                self._scores[row] = np.frombuffer(record, dtype="<f8")

    def load_scores(self, collection: str, values: Scores) -> None:
        tracks = np.array([int(member) for member in values], dtype=np.int64)
        self._tops[collection].update(self._rows(tracks), tracks, np.array([*values.values()], dtype=np.float64))

    def add(self, tracks: Ints, fractions: NDArray[np.float64], timestamps_ms: Ints) -> None:
        """Add listens, in order (`ufunc.at` works through its arguments one by one)."""
        heard = fractions > 0.0
        if not heard.any():
            return
        tracks = tracks[heard]
        rows = self._rows(tracks)
        weights, times_ms = np.log2(fractions[heard]), timestamps_ms[heard].astype(np.float64)
        for column, half_life_ms in enumerate(HALF_LIVES_MS.values()):
            np.logaddexp2.at(self._scores[:, column], rows, weights + times_ms / half_life_ms)
        self._touched.append((rows, tracks))

    def changes(self) -> Changes:
        """Return the scores of the batch's tracks, and the changes of the tops."""
        if not self._touched:
            return Changes()
        rows, tracks = (np.concatenate(column) for column in zip(*self._touched, strict=True))
        firsts = np.empty(len(rows), dtype=np.int64)
        firsts = firsts[: first_of_each(rows, self._met, firsts)]
        rows, tracks, self._touched = rows[firsts], tracks[firsts], []
        scores = self._scores[rows]
        packed = pack_rows(tracks, scores.view(np.uint8).reshape(len(scores), -1)).tobytes()
        tops = zip(self._tops.items(), np.ascontiguousarray(scores.T), strict=True)
        return Changes(
            {POPULARITY: PackedFields(Bulk(2 * len(tracks), packed))},
            {name: top.update(rows, tracks, of_half_life) for (name, top), of_half_life in tops},
        )

    def _rows(self, tracks: Ints) -> Ints:
        rows, _ = self._row_of.of(tracks)
        size = len(self._loaded)
        if (more := at_least(self._row_of.count, size) - size) > 0:
            self._scores = np.pad(self._scores, ((0, more), (0, 0)), constant_values=-np.inf)
            self._loaded, self._met = np.pad(self._loaded, (0, more)), np.zeros(size + more, dtype=np.bool_)
        return rows
