"""Metrics and request ids of the gateway, and its health."""

from __future__ import annotations

import itertools
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.telemetry import DurationHistogram
from services.gateway.connections import Connections
from services.gateway.messages import RequestId
from services.gateway.middleware import CALL, refuse


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


_ROUTES = frozenset({"", "next", "last", "track", "healthz", "readyz", "metrics", "docs", "openapi.json", "ui"})
GONE = 499
"""What a request is counted as whose client was gone, or cut off, before there was an answer."""
_CLIENT_ID = re.compile(r"[\x21-\x7e]{1,128}")
_WRONG_KEY = "Idempotency-Key: a key has 1 to 128 printable ASCII characters and no spaces"


class Observing:
    """Gives each HTTP request an id, says it in the answer, and counts.

    A client's own id is kept where it is usable. A key that is not is refused: without it a retry might count twice.

    Parameters
    ----------
    app : ASGI application
    id_prefix : str
        What our ids begin with; no other gateway has the same.
    metrics : GatewayMetrics
    """

    def __init__(self, app: ASGIApp, id_prefix: str, metrics: GatewayMetrics) -> None:
        self._app = app
        self._id_prefix = id_prefix
        self._metrics = metrics
        self._numbers = itertools.count()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id")
        call = scope[CALL] = RequestId(
            f"{self._id_prefix}-{next(self._numbers)}",
            given.encode() if given is not None and _CLIENT_ID.fullmatch(given) else None,
            key := headers.get("idempotency-key"),
        )
        header = (b"x-request-id", call.client_id or call.id_.encode())
        status = GONE

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], header]}
            await send(message)

        route = route_of(scope["path"])
        began_s = time.perf_counter()
        self._metrics.in_flight += 1
        try:
            if key is None or _CLIENT_ID.fullmatch(key):
                await self._app(scope, receive, send_with_id)
            else:
                await refuse(scope, receive, send_with_id, 400, _WRONG_KEY)
        except Exception:
            status = 500 if status == GONE else status  # what the client sees of it
            raise
        finally:
            self._metrics.in_flight -= 1
            self._metrics.requests[route, status] += 1
            if route == "/next":
                self._metrics.next_s.update((time.perf_counter() - began_s,))


def route_of(path: str) -> str:
    """Return what a request is counted under; whatever clients make up, these are few.

    Examples
    --------
    >>> route_of("/next/42"), route_of("/wp-admin"), route_of("/")
    ('/next', 'other', '/')
    """
    first = path.split("/", 2)[1] if path.startswith("/") else path
    return f"/{first}" if first in _ROUTES else "other"
