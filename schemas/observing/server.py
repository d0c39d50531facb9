"""`/metrics`, `/healthz` and `/readyz` of a process, served from a thread of its own."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import socket
from typing import Any

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder

from schemas.errors import SettingsError
from schemas.observing.probes import Probe, always_well
from schemas.settings import Settings

log = logging.getLogger(__name__)

MOST_AT_ONCE = 8
CLIENT_TIMEOUT_S = 5.0
POLL_S = 0.05
"""How soon the thread notices that it shall stop."""


@contextmanager
def observed(
    settings: Settings, registry: CollectorRegistry, *, alive: Probe = always_well, ready: Probe = always_well
) -> Iterator[str | None]:
    """Serve what the registry collects while the block runs; nothing where the settings name no port.

    Parameters
    ----------
    settings : Settings
    registry : CollectorRegistry
        See `new_registry`. Its collectors are called from the server's thread.
    alive, ready : Probe
        What `/healthz` and `/readyz` answer: 200, or 503 and what is wrong. Called from the server's thread.

    Yields
    ------
    str | None
        The address; None where nothing is served.

    Raises
    ------
    SettingsError
        The port cannot be listened on.
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
    """Return a registry with what any process has: CPU, memory, open files, garbage collections."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


class MetricsServer(ThreadingHTTPServer):
    """Serves a few clients at a time; one that comes when all threads are taken is turned away.

    Raises
    ------
    SettingsError
        The port cannot be listened on.
    """

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
        """Where it is."""
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, where one is left."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and give the thread back."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: socket | tuple[bytes, socket], client_address: Any) -> None:
        """Log what went wrong with a request, unless the client has gone away."""
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
        """Say nothing: a scrape every few seconds is no event."""
