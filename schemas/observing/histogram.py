"""Counts of durations by bucket, cheap enough for every request."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client.core import HistogramMetricFamily

BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Upper bounds of the buckets: a request on a quiet machine takes some milliseconds, its deadline is five seconds."""


class DurationHistogram:
    """A histogram of seconds with one writer.

    `prometheus_client.Histogram` takes a lock and looks through the buckets one by one: 1 µs a value. This takes a
    seventh, because only one thread writes; the thread that reads it may see the value before the last.

    Parameters
    ----------
    bounds_s : sequence of float
        Upper bounds of the buckets, rising.

    Examples
    --------
    >>> histogram = DurationHistogram(bounds_s=(0.01, 0.1))
    >>> histogram.update([0.002, 0.05, 0.06, 3.0])
    >>> histogram.counts, round(histogram.sum_s, 3)
    ([1, 2, 1], 3.112)
    """

    def __init__(self, bounds_s: Sequence[float] = BOUNDS_S) -> None:
        self._bounds_s = tuple(bounds_s)
        self.counts = [0] * (len(bounds_s) + 1)
        self.sum_s = 0.0

    def update(self, durations_s: Iterable[float]) -> None:
        """Count durations."""
        bounds_s, counts = self._bounds_s, self.counts
        for duration_s in durations_s:
            counts[bisect_left(bounds_s, duration_s)] += 1
            self.sum_s += duration_s

    def family(self, name: str, documentation: str) -> HistogramMetricFamily:
        """Return what Prometheus scrapes; its buckets are cumulative.

        Examples
        --------
        >>> histogram = DurationHistogram(bounds_s=(0.01,))
        >>> histogram.update([0.002, 0.05])
        >>> [(s.name, s.labels, s.value) for s in histogram.family("wait_seconds", "Waiting.").samples][:2]
        [('wait_seconds_bucket', {'le': '0.01'}, 1), ('wait_seconds_bucket', {'le': '+Inf'}, 2)]
        """
        names = [*map(str, self._bounds_s), "+Inf"]
        buckets = list(zip(names, accumulate(self.counts), strict=True))
        return HistogramMetricFamily(name, documentation, buckets=buckets, sum_value=self.sum_s)
