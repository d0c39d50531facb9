"""A distribution of latencies in bounded memory."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_LOWEST_MS, _STEP, _BINS = 0.01, 1.01, 1700
"""Bins that are 1 % wide, from 10 µs to four minutes."""


class LatencyHistogram:
    """Counts latencies in bins 1 % wide, so a percentile is exact to 1 %.

    Examples
    --------
    >>> histogram = LatencyHistogram()
    >>> histogram.update(np.array([1.0, 2.0, 3.0, 100.0]))
    >>> histogram.count, round(histogram.percentile(50)), round(histogram.percentile(100))
    (4, 2, 100)
    """

    def __init__(self) -> None:
        self._counts = np.zeros(_BINS, dtype=np.int64)

    @property
    def count(self) -> int:
        """How many latencies were counted."""
        return int(self._counts.sum())

    def update(self, latencies_ms: NDArray[np.float64]) -> None:
        """Count a batch of latencies."""
        ratios = np.maximum(latencies_ms, _LOWEST_MS) / _LOWEST_MS
        bins = np.minimum(np.log(ratios) / np.log(_STEP), _BINS - 1).astype(np.int64)
        self._counts += np.bincount(bins, minlength=_BINS)

    def percentile(self, q: float) -> float:
        """Return the latency in ms that q percent do not exceed; 0 where there are none."""
        cumulative = np.cumsum(self._counts)
        if not cumulative[-1]:
            return 0.0
        # 99.9 % of 10,000 must be 9,990, whatever the product is in binary.
        wanted = max(1, int(np.ceil(cumulative[-1] * q / 100 - 1e-6)))
        return float(_LOWEST_MS * _STEP ** (np.searchsorted(cumulative, wanted) + 0.5))
