"""Projection `popularity` over columns: `Popularity`, whose records are packed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streams.folds.columns.packing import pack_rows
from streams.folds.popularity import Popularity, Tracks
from streams.folds.projection import Bulk, Fields, PackedFields


class PackedPopularity(Popularity):
    """See `Popularity`."""

    @staticmethod
    def _fields(tracks: Tracks, scores: NDArray[np.float64]) -> Fields:
        rows = scores.view(np.uint8).reshape(len(scores), -1)
        return PackedFields(Bulk(2 * len(tracks), pack_rows(tracks, rows).tobytes()))
