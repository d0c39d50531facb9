"""The current top tracks, read from Redis now and then."""

from __future__ import annotations

import contextlib
import time

import numpy as np
from numpy.typing import NDArray

from streams.read import StateReader
from streams.store.connect import REDIS_ERRORS

REFRESH_S = 1.0


class PopularTracks:
    """The top of one half-life, at most `REFRESH_S` old. Calling it returns the track ids, best first."""

    def __init__(self, reader: StateReader, half_life: str = "1d", count: int = 100) -> None:
        self._reader = reader
        self._half_life = half_life
        self._count = count
        self._top = np.empty(0, dtype=np.int64)
        self._read_at = -REFRESH_S

    def __call__(self) -> NDArray[np.int64]:
        """Return the top tracks; empty before the first listen."""
        now = time.monotonic()
        if now - self._read_at >= REFRESH_S:
            with contextlib.suppress(*REDIS_ERRORS):  # a top that is a little older serves as well
                self._top, _ = self._reader.top_tracks(self._half_life, self._count)
            self._read_at = now
        return self._top
