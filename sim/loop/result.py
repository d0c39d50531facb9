"""The result of a run over Kafka, its latencies in bounded memory, and its metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from botify.core.telemetry import Heartbeat
from botify.sim.play import Progress

_LOWEST_MS, _STEP, _BINS = 0.01, 1.01, 1700
"""Bins 1 % wide, from 10 µs to four minutes."""


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
        """Number of latencies counted."""
        return int(self._counts.sum())

    def update(self, latencies_ms: NDArray[np.float64]) -> None:
        """Count a batch of latencies."""
        ratios = np.maximum(latencies_ms, _LOWEST_MS) / _LOWEST_MS
        bins = np.minimum(np.log(ratios) / np.log(_STEP), _BINS - 1).astype(np.int64)
        self._counts += np.bincount(bins, minlength=_BINS)

    def percentile(self, q: float) -> float:
        """Return the latency in ms that q percent do not exceed; 0 without latencies."""
        cumulative = np.cumsum(self._counts)
        if not cumulative[-1]:
            return 0.0
        # 99.9 % of 10,000 must be 9,990 although the product is not exact in binary
        wanted = max(1, int(np.ceil(cumulative[-1] * q / 100 - 1e-6)))
        return float(_LOWEST_MS * _STEP ** (np.searchsorted(cumulative, wanted) + 0.5))


@dataclass(slots=True)
class RunResult(Progress):
    """The counts and latencies of a run."""

    run_id: str = ""
    measured_s: float = 0.0  # wall time without the warm-up
    # round trips after the warm-up, from sending a request to receiving its answer
    latency: LatencyHistogram = field(default_factory=LatencyHistogram)

    @property
    def recommendations_per_s(self) -> float:
        """Recommendations received per second of wall time after the warm-up."""
        return self.latency.count / self.measured_s if self.measured_s > 0 else 0.0


QUANTILES = (0.5, 0.99)


class SimulatorMetrics(Collector):
    """Exports the last reported progress; pass `report` to `run_loop`. Each report beats the `heartbeat`."""

    def __init__(self) -> None:
        self.heartbeat = Heartbeat()
        self._done: Progress | None = None

    def report(self, done: Progress) -> None:
        """Store the progress of the run."""
        self._done = done
        self.heartbeat.beat()

    def missing_for_ready(self) -> str | None:
        """Return why the run is not ready, or None; a `Probe`."""
        return None if self._done is not None else "the run has not started"

    def collect(self) -> Iterable[Metric]:
        """Return the metrics as of the last report."""
        done = self._done or Progress()
        for name, documentation, value in (
            ("listens", "Finished listens.", done.listens),
            ("sessions", "Finished sessions.", done.sessions),
            ("recommendations", "Recommendations that were played.", done.recommendations),
            ("retries", "Requests that were sent a second time, because no answer arrived.", done.retried),
            ("timeouts", "Sessions that ended because no answer arrived.", done.timed_out),
            ("answers_dropped", "Answers to no open request: copies, late ones and those of other runs.", done.dropped),
            ("answers_unusable", "Answers that cannot be decoded or name an unknown track.", done.unusable),
        ):
            yield CounterMetricFamily(f"botify_simulator_{name}", documentation, value=value)
        if isinstance(done, RunResult):
            latency = Metric(
                "botify_simulator_request_duration_seconds",
                "Time from sending a request to receiving its answer.",
                "summary",
            )
            for quantile in QUANTILES:
                latency.add_sample(
                    latency.name, {"quantile": str(quantile)}, done.latency.percentile(quantile * 100) / 1000
                )
            latency.add_sample(f"{latency.name}_count", {}, done.latency.count)
            yield latency
