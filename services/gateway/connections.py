"""Connections as uvicorn serves them, with bounds on their number, and on the bytes and the time before a request.

uvicorn bounds neither headers nor the time that a request may take to arrive, and its parser, httptools, copies a
header for each piece of it that arrives: an endless one exhausts the process.

If there is no room for a new connection, an idle one is closed: of those that never had a complete request or of those
that had one, whichever are more, the one that has been idle for longest. So clients that send requests get in and stay,
however many others only connect. A client, that is an address, loses its own connections first.
"""

from __future__ import annotations

import asyncio
import enum
import json
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from botify.services.gateway import RETRY_AFTER_S, Bounds, GatewayOptions

STUCK_S = 10.0  # how much longer than the deadline an answer may take before its connection may be closed to make room
HEADERS = 100  # how many a request may have
PIECE = 1_024  # bytes that are parsed at a time, so that it is known which of them belong to a request
PIPELINED = 32  # how many requests of a connection may wait for the answer to another one


class Stage(enum.Enum):
    """What a connection waits for."""

    REQUEST = "request"  # the next request of a connection that was kept alive; nothing of it has arrived
    HEADERS = "headers"
    BODY = "body"
    ANSWER = "answer"  # the request is complete and in progress; or the connection is a websocket


class ConnectionGroup:
    """The connections of one client, or of all, and their bounds; each state is in the order of reaching it."""

    __slots__ = ("bodies", "max_bodies", "max_connections", "new", "waiting", "working")

    def __init__(self, connections: int, bodies: int) -> None:
        self.max_connections = connections
        self.max_bodies = bodies
        self.new: dict[BoundedHttp, None] = {}  # without a complete request so far
        self.waiting: dict[BoundedHttp, None] = {}  # since the last answer, for a request or the rest of it
        self.working: dict[BoundedHttp, None] = {}
        self.bodies: dict[BoundedHttp, None] = {}  # of the new and the waiting, those with a body that is arriving

    def __len__(self) -> int:
        return len(self.new) + len(self.waiting) + len(self.working)

    def idlest(self) -> BoundedHttp:
        idle = self.new if len(self.new) >= len(self.waiting) else self.waiting
        return next(iter(idle or self.working))

    def move(self, connection: BoundedHttp, before: Stage, stage: Stage) -> None:
        if before is Stage.BODY:
            self.bodies.pop(connection, None)
        if stage is Stage.ANSWER:
            self.new.pop(connection, None)
            self.waiting.pop(connection, None)
            self.working[connection] = None
        elif before is Stage.ANSWER:
            self.working.pop(connection, None)
            self.waiting[connection] = None
        if stage is Stage.BODY:
            self.bodies[connection] = None

    def remove(self, connection: BoundedHttp) -> None:
        for group in (self.new, self.waiting, self.working, self.bodies):
            group.pop(connection, None)


class Connections:
    """All open connections; the clock is monotonic, in seconds."""

    def __init__(self, options: GatewayOptions, bounds: Bounds, clock: Callable[[], float] = time.monotonic) -> None:
        self.bounds = bounds
        self.closed: Counter[str] = Counter()  # by reason
        self._clock = clock
        self._all = ConnectionGroup(bounds.connections, bounds.bodies)
        self._of_clients: dict[str, ConnectionGroup] = {}
        self._connections_per_client = options.connections_per_client or max(1, bounds.connections // 2)
        self._bodies_per_client = bounds.bodies if options.connections_per_client else bounds.bodies_per_client
        self._patience_s = {
            Stage.REQUEST: bounds.keep_alive_s,
            Stage.HEADERS: bounds.header_s,
            Stage.BODY: bounds.body_s,
        }
        self._stuck_s = options.deadline_ms / 1000 + STUCK_S

    def __len__(self) -> int:
        return len(self._all)

    @property
    def clients(self) -> int:
        """How many addresses have a connection."""
        return len(self._of_clients)

    def open(self, connection: BoundedHttp) -> bool:
        """Count a new connection, if necessary in the place of the idlest; return whether there is room."""
        group = self._of_clients.get(connection.address)
        if group is None:
            group = ConnectionGroup(self._connections_per_client, self._bodies_per_client)
        if not (self._has_room(group) and self._has_room(self._all)):
            return False
        self._of_clients[connection.address] = connection.group = group
        connection.stage, connection.since_s = Stage.HEADERS, self._clock()
        group.new[connection] = self._all.new[connection] = None
        return True

    def enter(self, connection: BoundedHttp, stage: Stage) -> None:
        """Note the new stage of a connection; if too many bodies are arriving, refuse the oldest."""
        group = connection.group
        if group is None:
            return
        before, connection.stage, connection.since_s = connection.stage, stage, self._clock()
        group.move(connection, before, stage)
        self._all.move(connection, before, stage)
        if stage is Stage.BODY:
            self._bound_bodies(group, f" of {connection.address}")
            self._bound_bodies(self._all, "")

    def close(self, connection: BoundedHttp) -> None:
        group, connection.group = connection.group, None
        if group is None:
            return
        group.remove(connection)
        self._all.remove(connection)
        if not len(group):
            del self._of_clients[connection.address]

    async def sweep(self) -> None:
        """Close connections whose time is over; to be called each second."""
        now_s = self._clock()
        for connection in [*self._all.new, *self._all.waiting]:
            patience_s = self._patience_s[connection.stage]
            if now_s - connection.since_s <= patience_s:
                continue
            if connection.stage is Stage.REQUEST:
                connection.drop()
            else:
                what = connection.stage.value
                connection.refuse(f"{what}_late", 408, f"the {what} took longer than {patience_s} s")
        for connection in [*self._all.working]:
            if connection.is_closing():  # uvicorn does not report the end of a websocket
                self.close(connection)

    def _has_room(self, group: ConnectionGroup) -> bool:
        if len(group) < group.max_connections:
            return True
        idlest = group.idlest()
        if idlest.stage is Stage.ANSWER and self._clock() - idlest.since_s < self._stuck_s:
            return False
        self.closed["idlest"] += 1
        self.close(idlest)
        idlest.drop()
        return True

    def _bound_bodies(self, group: ConnectionGroup, whose: str) -> None:
        if len(group.bodies) > group.max_bodies:
            oldest = next(iter(group.bodies))
            for holder in (oldest.group, self._all):
                if holder is not None:
                    holder.bodies.pop(oldest)
            oldest.refuse("bodies", 503, f"more than {group.max_bodies} bodies{whose} are under way")


class BoundedHttp(HttpToolsProtocol):
    """A connection within the bounds of `Connections`; it takes what uvicorn passes, too."""

    def __init__(self, connections: Connections, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self.address = ""  # the client's
        self.stage = Stage.HEADERS
        self.since_s = 0.0  # when it reached its stage, on the monotonic clock
        self.group: ConnectionGroup | None = None  # the client's; None while the connection is not counted
        self._connections = connections
        self._max_bytes = connections.bounds.header_bytes
        self._parsing = Stage.HEADERS  # ANSWER: the request is complete
        self._named_bytes = 0  # URL, names and values
        self._head_bytes = 0  # all that has arrived of a request but its body
        self._upgraded = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        super().connection_made(transport)
        self.address = self.client[0] if self.client else ""
        if not self._connections.open(self):
            self.refuse("no_room", 503, "there are too many connections, and all of them have requests in work")

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._connections.close(self)

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), PIECE):
            piece = data[start : start + PIECE]
            self._head_bytes += len(piece)
            super().data_received(piece)
            if self._upgraded or self.transport.is_closing():
                return
            if self._head_bytes > self._max_bytes:
                self._refuse_headers()
                return
            self._head_bytes = max(0, self._head_bytes)
        self._note_stage()

    def on_message_begin(self) -> None:
        self._parsing, self._named_bytes = Stage.HEADERS, 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count it; trailers of a body are headers too."""
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start the application, unless the host is missing or ambiguous, or too many requests wait already."""
        hosts = [name for name, _ in self.headers].count(b"host")
        if hosts > 1 or (not hosts and self.parser.get_http_version() == "1.1"):
            self.refuse("host", 400, f"a request has one Host header, and this one has {hosts}")
            raise _RefusedError
        self._parsing = Stage.BODY
        if len(self.pipeline) >= PIPELINED:
            self.refuse("pipelined", 503, f"{PIPELINED} requests of this connection wait already")
            raise _RefusedError
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Pass a piece on; the application counts it."""
        self._head_bytes -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request; up to `PIECE` bytes of the next one count for it."""
        if self._head_bytes > self._max_bytes:
            self._refuse_headers()
            raise _RefusedError
        self._parsing, self._head_bytes = Stage.ANSWER, 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._parsing is Stage.ANSWER:
            self._note_stage()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over; it is counted until it ends."""
        super().handle_websocket_upgrade()
        self._upgraded = True
        self._connections.enter(self, Stage.ANSWER)

    def send_400_response(self, msg: str) -> None:
        """Answer invalid HTTP; a request that was refused has its answer already."""
        if not self.transport.is_closing():
            self._connections.closed["invalid"] += 1
            super().send_400_response(msg)

    def refuse(self, reason: str, status: int, detail: str) -> None:
        """Close it with an answer, if HTTP allows one; at once, if it is closing already."""
        if self.transport.is_closing():
            self.transport.abort()
            return
        self._connections.closed[reason] += 1
        if self._may_answer():
            self.transport.write(_answer(status, detail, self.server_state.default_headers))
        self.transport.close()

    def drop(self) -> None:
        self.transport.abort()

    def is_closing(self) -> bool:
        return self.transport.is_closing()

    def _note_stage(self) -> None:
        stage = self._parsing
        if stage is Stage.ANSWER and self.cycle is not None and self.cycle.response_complete:
            stage = Stage.REQUEST
        if stage is not self.stage:
            self._connections.enter(self, stage)

    def _count(self, more: int) -> None:
        self._named_bytes += more
        if self._named_bytes > self._max_bytes or len(self.headers) >= HEADERS:
            self._refuse_headers()
            raise _RefusedError

    def _refuse_headers(self) -> None:
        detail = f"a request may have {HEADERS} headers, and {self._max_bytes} bytes besides its body"
        self.refuse("headers_long", 431, detail)

    def _may_answer(self) -> bool:
        """Return whether the next answer that the client expects is that to the request being parsed."""
        if self._parsing is Stage.BODY:
            return not (self.cycle.response_started or self.pipeline)
        return self._parsing is Stage.HEADERS and (self.cycle is None or self.cycle.response_complete)


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
