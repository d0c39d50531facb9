"""What Prometheus is told about a gateway."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from schemas.observing.histogram import DurationHistogram
from services.gateway.connections import Connections


class GatewayMetrics(Collector):
    """Plain counts, made into metrics when they are scraped: a request costs no lock.

    Parameters
    ----------
    problems : callable
        Returns what keeps the gateway from being ready.
    connections : Connections, optional
        Those of the server, where it bounds them.

    Attributes
    ----------
    requests : Counter of (route, status)
    in_flight : int
    fallbacks : int
    next_s : DurationHistogram
        How long clients waited for the next track.
    """

    def __init__(self, problems: Callable[[], list[str]], connections: Connections | None = None) -> None:
        self._problems = problems
        self._connections = connections
        self.requests: Counter[tuple[str, int]] = Counter()
        self.in_flight = 0
        self.fallbacks = 0
        self.next_s = DurationHistogram()

    def collect(self) -> Iterator[Metric]:
        """Return the metrics."""
        requests = CounterMetricFamily(
            "botify_gateway_requests", "Requests, by route and status.", labels=("route", "status")
        )
        for (route, status), count in sorted(self.requests.items()):
            requests.add_metric((route, str(status)), count)
        yield requests
        yield CounterMetricFamily(
            "botify_gateway_fallbacks",
            "Tracks that were given because no recommendation came in time.",
            value=self.fallbacks,
        )
        yield GaugeMetricFamily("botify_gateway_in_flight_requests", "Requests in work.", value=self.in_flight)
        yield GaugeMetricFamily(
            "botify_gateway_ready", "Whether listeners can be served.", value=float(not self._problems())
        )
        if self._connections is not None:
            yield GaugeMetricFamily(
                "botify_gateway_connections", "Open connections, websockets included.", value=len(self._connections)
            )
            closed = CounterMetricFamily(
                "botify_gateway_connections_closed", "Connections that a bound closed, by bound.", labels=("bound",)
            )
            for bound, count in sorted(self._connections.closed.items()):
                closed.add_metric((bound,), count)
            yield closed
        yield self.next_s.family("botify_gateway_next_duration_seconds", "How long clients waited for the next track.")
