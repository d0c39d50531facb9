"""What a simulation has done so far, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from schemas.observing.probes import Heartbeat
from sim.loop.result import RunResult
from sim.progress import Progress

QUANTILES = (0.5, 0.99)


class SimulatorMetrics(Collector):
    """The progress that was reported last; give `report` to `run_loop`.

    Attributes
    ----------
    heartbeat : Heartbeat
        Beaten by each report.
    """

    def __init__(self) -> None:
        self.heartbeat = Heartbeat()
        self._done: Progress | None = None

    def report(self, done: Progress) -> None:
        """Remember how far the run is."""
        self._done = done
        self.heartbeat.beat()

    def missing_for_ready(self) -> str | None:
        """Say what is missing; a `Probe`."""
        return None if self._done is not None else "the run has not begun"

    def collect(self) -> Iterable[Metric]:
        """Return the metrics as of the last report."""
        done = self._done or Progress()
        for name, documentation, value in (
            ("listens", "Listens that came to their end.", done.listens),
            ("sessions", "Sessions that came to their end.", done.sessions),
            ("recommendations", "Recommendations that were played.", done.recommendations),
            ("retries", "Requests that were made a second time, because no answer came.", done.retried),
            ("timeouts", "Sessions that ended because no answer came.", done.timed_out),
            ("answers_dropped", "Answers to no open request: copies, late ones and those of other runs.", done.dropped),
            ("answers_unusable", "Answers that cannot be decoded or name no track.", done.unusable),
        ):
            yield CounterMetricFamily(f"botify_simulator_{name}", documentation, value=value)
        if isinstance(done, RunResult):
            latency = Metric(
                "botify_simulator_request_duration_seconds", "From sending a request to having its answer.", "summary"
            )
            for quantile in QUANTILES:
                latency.add_sample(
                    latency.name, {"quantile": str(quantile)}, done.latency.percentile(quantile * 100) / 1000
                )
            latency.add_sample(f"{latency.name}_count", {}, done.latency.count)
            yield latency
