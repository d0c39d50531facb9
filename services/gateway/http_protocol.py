"""HTTP as uvicorn reads it, with bounds on what comes before a request is whole.

uvicorn bounds neither headers nor the time that a request may take to arrive, and httptools, which parses, copies a
header anew for each piece of it that arrives: an endless one takes the whole process along.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from services.gateway.connections import Connections, Share, Stage
from services.gateway.middleware import RETRY_AFTER_S

HEADERS = 100
"""How many a request may have."""
PIPELINED = 32
"""How many requests of a connection may wait for the answer to another one."""


class BoundedHttp(HttpToolsProtocol):
    """A connection that keeps to the bounds of `Connections`.

    Parameters
    ----------
    connections : Connections
    uvicorns
        What uvicorn passes.
    """

    def __init__(self, connections: Connections, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self.address = ""
        self.stage = Stage.HEADERS
        self.since_s = 0.0
        self.share: Share | None = None
        self._connections = connections
        self._most_bytes = connections.options.header_bytes
        self._reading = Stage.HEADERS  # what the parser is in; ANSWER: the request is whole
        self._named_bytes = 0  # URL, names and values
        self._besides_bytes = 0  # all that has come of a request but its body
        self._upgraded = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        """Count it, or send it away."""
        super().connection_made(transport)
        self.address = self.client[0] if self.client else ""
        if not self._connections.open(self):
            self.refuse("no_room", 503, "there are too many connections, and all of them have requests in work")

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        super().connection_lost(exc)
        self._connections.close(self)

    def data_received(self, data: bytes) -> None:
        """Parse, and note how far the request is."""
        self._besides_bytes += len(data)
        super().data_received(data)
        if self._upgraded:
            return
        if self._besides_bytes > self._most_bytes:
            self._refuse_headers()
        self._besides_bytes = max(0, self._besides_bytes)
        self._note()

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._reading, self._named_bytes = Stage.HEADERS, 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Count it."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count it; what trails a body is a header too."""
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Have the request served, unless too many wait already."""
        self._reading = Stage.BODY
        if len(self.pipeline) >= PIPELINED:
            self.refuse("pipelined", 503, f"{PIPELINED} requests of this connection wait already")
            raise _RefusedError
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece; what counts it is the application."""
        self._besides_bytes -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        self._reading, self._besides_bytes = Stage.ANSWER, 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        if self._reading is Stage.ANSWER:
            self._note()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over; it is counted until it ends."""
        super().handle_websocket_upgrade()
        self._upgraded = True
        self._connections.enter(self, Stage.ANSWER)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP; what the parser stopped at because of us has its answer."""
        if not self.transport.is_closing():
            self._connections.closed["invalid"] += 1
            super().send_400_response(msg)

    def refuse(self, reason: str, status: int, detail: str) -> None:
        """Close it with an answer, if one may be given; at once, if it is being closed already."""
        if self.transport.is_closing():
            self.transport.abort()
            return
        self._connections.closed[reason] += 1
        if self._can_be_answered():
            self.transport.write(_answer(status, detail, self.server_state.default_headers))
        self.transport.close()

    def drop(self) -> None:
        """Close it at once."""
        self.transport.abort()

    def is_closing(self) -> bool:
        """Say whether it is closed, or about to be."""
        return self.transport.is_closing()

    def _note(self) -> None:
        stage = self._reading
        if stage is Stage.ANSWER and self.cycle is not None and self.cycle.response_complete:
            stage = Stage.REQUEST
        if stage is not self.stage:
            self._connections.enter(self, stage)

    def _count(self, more: int) -> None:
        self._named_bytes += more
        if self._named_bytes > self._most_bytes or len(self.headers) >= HEADERS:
            self._refuse_headers()
            raise _RefusedError

    def _refuse_headers(self) -> None:
        detail = f"a request may have {HEADERS} headers, and {self._most_bytes} bytes besides its body"
        self.refuse("headers_long", 431, detail)

    def _can_be_answered(self) -> bool:
        """Say whether the next answer that the client expects is that to the request being read."""
        if self._reading is Stage.BODY:
            return not (self.cycle.response_started or self.pipeline)
        return self._reading is Stage.HEADERS and (self.cycle is None or self.cycle.response_complete)


class _RefusedError(Exception):
    """Stops the parser."""


def _answer(status: int, detail: str, headers: list[tuple[bytes, bytes]]) -> bytes:
    body = json.dumps({"detail": detail}).encode()
    own = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"retry-after", b"%d" % RETRY_AFTER_S),
        (b"connection", b"close"),
    ]
    lines = b"".join(b"%s: %s\r\n" % header for header in [*headers, *own])
    return STATUS_LINE[status] + lines + b"\r\n" + body
