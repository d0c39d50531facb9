"""Projection `popularity` over columns; see `botify.streams.folds.popularity`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from botify.streams.folds.columns.ids import RowsOfIds, at_least, first_of_each
from botify.streams.folds.columns.kernels import merge_top
from botify.streams.folds.columns.packing import pack_rows
from botify.streams.folds.popularity import HALF_LIVES_MS, POPULARITY, TOP_TRACKS, TOPS, TrackRows
from botify.streams.folds.projection import Bulk, Changes, Fields, PackedFields, ScoreChanges, Scores

Ints = NDArray[np.int64]


_FIRST_ROWS = 1024


class Popularity:
    """Scores of the tracks heard in one partition, for all half-lives at once.

    Scores are in dense arrays, 25 bytes a track, and read from the store when first needed, unless it has
    `nothing_stored`. `rows` is shared with the folds of other partitions.
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
        self._tops = {name: Top(top_tracks) for name in TOPS}
        self._touched: list[tuple[Ints, Ints]] = []  # rows and tracks

    def missing(self, tracks: Ints) -> dict[str, list[bytes]]:
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
        self._tops[collection].load(values)

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
        if not self._touched:
            return Changes()
        rows, tracks = (np.concatenate(column) for column in zip(*self._touched, strict=True))
        firsts = first_of_each(rows, self._met)
        firsts = firsts[np.argsort(tracks[firsts])]
        rows, tracks, self._touched = rows[firsts], tracks[firsts], []
        scores = self._scores[rows]
        packed = pack_rows(tracks, scores.view(np.uint8).reshape(len(scores), -1)).tobytes()
        tops = zip(self._tops.items(), np.ascontiguousarray(scores.T), strict=True)
        return Changes(
            {POPULARITY: PackedFields(Bulk(2 * len(tracks), packed))},
            {name: top.update(tracks, of_half_life) for (name, top), of_half_life in tops},
        )

    def _rows(self, tracks: Ints) -> Ints:
        rows, _ = self._row_of.of(tracks)
        size = len(self._loaded)
        if (more := at_least(self._row_of.count, size) - size) > 0:
            self._scores = np.pad(self._scores, ((0, more), (0, 0)), constant_values=-np.inf)
            self._loaded, self._met = np.pad(self._loaded, (0, more)), np.zeros(size + more, dtype=np.bool_)
        return rows


class Top:
    """The best tracks by score, which only grow; of equal scores the smaller track id is better."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._tracks, self._scores = np.zeros(0, dtype=np.int64), np.zeros(0)  # in the order of ids

    def load(self, values: Scores) -> None:
        """Add tracks that are stored."""
        stored = sorted((int(member), score) for member, score in values.items())
        tracks, scores = np.array([track for track, _ in stored], dtype=np.int64), [score for _, score in stored]
        self.update(tracks, np.array(scores, dtype=np.float64))

    def update(self, tracks: Ints, scores: NDArray[np.float64]) -> ScoreChanges:
        """Update scores of tracks, in the order of ids; return the changes, None for a track that left."""
        self._tracks, self._scores, stays, left = merge_top(self._tracks, self._scores, tracks, scores, self._size)
        staying = zip(tracks[stays].tolist(), scores[stays].tolist(), strict=True)
        changed: dict[bytes, float | None] = {b"%d" % track: score for track, score in staying}
        return changed | {b"%d" % track: None for track in left.tolist()}
