"""Histograms, health probes, and the server of /metrics, /healthz and /readyz."""

import logging
import sys
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import accumulate
from socket import socket
from typing import Any

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.exposition import choose_encoder

from botify.core.errors import SettingsError
from botify.core.settings import Settings

BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Upper bounds of the buckets: a request on a quiet machine takes some milliseconds, its deadline is five seconds."""


class DurationHistogram:
    """A histogram of seconds with one writer; `bounds_s` are the rising upper bounds of its buckets.

    `prometheus_client.Histogram` takes a lock and searches the buckets one by one, 1 µs a value. This takes a seventh,
    because only one thread writes; a reading thread may see the value before the last.
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
        """Return what Prometheus scrapes; its buckets are cumulative."""
        names = [*map(str, self._bounds_s), "+Inf"]
        buckets = list(zip(names, accumulate(self.counts), strict=True))
        return HistogramMetricFamily(name, documentation, buckets=buckets, sum_value=self.sum_s)


Probe = Callable[[], str | None]  # returns the problem, in words; None if there is none

SILENCE_S = 60.0  # longer than any single wait: a flush gives up after 30 s, a Redis command after three tries of 10 s


class Heartbeat:
    """Updated by the loop that does the work, so that a loop that hangs for `silence_s` is detected."""

    def __init__(self, silence_s: float = SILENCE_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._silence_s = silence_s
        self._clock = clock
        self._beaten_s = clock()

    def beat(self) -> None:
        """Record that the loop runs."""
        self._beaten_s = self._clock()

    def probe(self) -> str | None:
        """Return the problem; a `Probe`."""
        silent_s = self._clock() - self._beaten_s
        return f"the loop has not run for {silent_s:.0f} s" if silent_s > self._silence_s else None


def always_well() -> None:
    """Return no problem; a `Probe`."""


log = logging.getLogger(__name__)

MOST_AT_ONCE = 8
CLIENT_TIMEOUT_S = 5.0
POLL_S = 0.05  # how often the thread checks whether it must stop


@contextmanager
def observed(
    settings: Settings, registry: CollectorRegistry, *, alive: Probe = always_well, ready: Probe = always_well
) -> Iterator[str | None]:
    """Serve what the registry collects while the block runs, and yield the address; nothing and None without a port.

    `alive` and `ready` are the probes of `/healthz` and `/readyz`, which answer 200, or 503 and the problem. Probes and
    collectors are called from the server's thread. Raises `SettingsError` if the port cannot be listened on.
    """
    if settings.metrics_port is None:
        yield None
        return
    with MetricsServer(settings.metrics_host, settings.metrics_port, registry, alive, ready) as server:
        thread = threading.Thread(target=server.serve_forever, args=(POLL_S,), name="metrics", daemon=True)
        thread.start()
        log.info("serving metrics", extra={"url": server.url})
        try:
            yield server.url
        finally:
            server.shutdown()
            thread.join()


def new_registry() -> CollectorRegistry:
    """Return a registry with the metrics of a process: CPU, memory, open files, garbage collections."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


class MetricsServer(ThreadingHTTPServer):
    """Serves `MOST_AT_ONCE` clients at a time, and refuses others; raises `SettingsError` if the port is taken."""

    daemon_threads = True

    def __init__(self, host: str, port: int, registry: CollectorRegistry, alive: Probe, ready: Probe) -> None:
        self.registry = registry
        self.probes = {"/healthz": alive, "/readyz": ready}
        self._free = threading.BoundedSemaphore(MOST_AT_ONCE)
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise SettingsError(
                f"BOTIFY_METRICS_PORT: {host}:{port} cannot be listened on ({error.strerror}); name another, or 0 for "
                "any free one"
            ) from error

    @property
    def url(self) -> str:
        """The address."""
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread if one is free."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and free the thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: socket | tuple[bytes, socket], client_address: Any) -> None:
        """Log a failed request, unless the client has disconnected."""
        if not isinstance(sys.exception(), OSError):
            log.warning("a metrics request failed", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: MetricsServer
    timeout = CLIENT_TIMEOUT_S

    def do_GET(self) -> None:
        """Answer one of the three paths."""
        path = self.path.partition("?")[0]
        if path == "/metrics":
            encode, content_type = choose_encoder(self.headers.get("Accept", ""))
            self._answer(200, encode(self.server.registry), content_type)
        elif (probe := self.server.probes.get(path)) is not None:
            wrong = probe()
            self._answer(503 if wrong else 200, f"{wrong or 'ok'}\n".encode())
        else:
            self._answer(404, b"there are /metrics, /healthz and /readyz\n")

    def _answer(self, status: int, body: bytes, content_type: str = "text/plain; charset=utf-8") -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in the base class
        """Log nothing: a scrape every few seconds is no event."""
