"""Projection `popularity` over columns: the scores of `Popularity`, with rows, tops and records by compiled code."""

from __future__ import annotations

from itertools import islice

import numpy as np
from numpy.typing import NDArray

from botify.streams.folds.columns.ids import RowsOfIds, first_of_each
from botify.streams.folds.columns.packing import pack_rows
from botify.streams.folds.columns.tops import TopHeap
from botify.streams.folds.popularity import TOP_TRACKS, Popularity, Rows, TrackRows, Tracks
from botify.streams.folds.projection import Bulk, Fields, PackedFields, ScoreChanges, Scores


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
        row_of, index = self._row_of, self._row_of.index
        if index.count < len(row_of):  # a partition that is folded listen by listen has added some
            index.of(np.array([*islice(row_of, index.count, None)], dtype=np.int64))
        rows: Rows
        rows, new = index.of(tracks)
        for track in tracks[new].tolist():
            row_of[track] = len(row_of)
        return rows

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
