"""Incomplete requests are bounded in bytes and time; complete ones are not affected."""

import asyncio
from typing import Any

import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState

from botify.services.gateway import Bounds, GatewayOptions
from botify.services.gateway.connections import HEADERS, PIPELINED, BoundedHttp, Connections, Stage

HEAD = b"POST /next/1 HTTP/1.1\r\nHost: gateway\r\n"
WHOLE = HEAD + b"Content-Length: 2\r\n\r\n{}"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
BOUND = 4_096


class Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__({"peername": ("10.0.0.7", 1), "sockname": ("10.0.0.1", 80)})
        self.written = b""
        self.closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def abort(self) -> None:
        self.closing = True

    close = abort

    def is_closing(self) -> bool:
        return self.closing

    def get_write_buffer_size(self) -> int:
        return 0

    def ignore(self, *_: object, **__: object) -> None:
        """Do nothing: it has neither a peer that is slow nor another protocol."""

    pause_reading = resume_reading = set_protocol = set_write_buffer_limits = ignore


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the body's length, when it is whole; accept websockets."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        return
    length, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        length, more = length + len(message["body"]), message["more_body"]
    body = b"%d bytes" % length
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


class Peer:
    """A connection to an application, by default to `app`."""

    def __init__(self, connections: Connections, served: ASGIApp | None = None) -> None:
        config = uvicorn.Config(served or app, log_config=None, proxy_headers=False)
        self.http: Any = BoundedHttp(connections, config=config, server_state=ServerState(), app_state={})
        self.transport = Transport()
        self.http.connection_made(self.transport)

    async def send(self, *pieces: bytes) -> list[int]:
        """Send until cut off, and return the statuses of the answers so far."""
        for piece in pieces:
            if self.transport.closing:
                break
            self.http.data_received(piece)
            await asyncio.sleep(0)
        for _ in range(10 * PIPELINED):
            await asyncio.sleep(0)
        return [int(answer.split()[0]) for answer in self.transport.written.split(b"HTTP/1.1")[1:]]


def bounded(**bounds: int) -> Connections:
    return Connections(GatewayOptions(), Bounds(header_bytes=BOUND, **bounds))


async def test_fragmented_requests_are_answered_and_the_connection_is_kept() -> None:
    connections = bounded()
    peer = Peer(connections)
    stages = []
    for piece in (b"POST ", WHOLE[5:-2], b"{"):
        await peer.send(piece)
        stages.append(peer.http.stage)
    assert stages == [Stage.HEADERS, Stage.BODY, Stage.BODY]
    assert await peer.send(b"}") == [200]
    assert peer.http.stage is Stage.REQUEST
    assert await peer.send(WHOLE, WHOLE + WHOLE) == [200] * 4
    assert not peer.transport.closing
    assert connections.closed == {}


ENDLESS, HALF = [b"a" * 100] * 1_000, CHUNKED + b"2;" + b"a" * (BOUND // 2) + b"\r\n{}\r\n"
LONG = {
    "endless header": [HEAD, b"X-Endless: ", *ENDLESS],
    "endless headers": [HEAD, *[b"X: %s\r\n" % (b"a" * 100)] * 1_000],
    "long header": [HEAD + b"X: %s\r\n\r\n" % (b"a" * BOUND)],
    "many headers": [HEAD + b"X: 1\r\n" * HEADERS + b"\r\n"],
    "long address": [b"GET /" + b"a" * BOUND + b" HTTP/1.1\r\n\r\n"],
    "endless address": [b"GET /", *ENDLESS],
    "endless trailer": [CHUNKED, b"0\r\nX-Endless: ", *ENDLESS],
    "endless chunk extension": [CHUNKED, b"1;", *ENDLESS],
    "many trailers": [CHUNKED, b"0\r\n", b"X: 1\r\n" * HEADERS],
    "whole chunk extension": [CHUNKED + b"2;" + b"a" * BOUND + b"\r\n{}\r\n0\r\n\r\n"],
    "two extensions": [HALF + b"0;" + b"a" * (BOUND // 2) + b"\r\n\r\n"],
}


@pytest.mark.parametrize("pieces", LONG.values(), ids=LONG)
async def test_headers_trailers_and_chunk_extensions_are_bounded(pieces: list[bytes]) -> None:
    connections = bounded()
    peer, extended = Peer(connections), HALF + b"0\r\n\r\n"
    assert await peer.send(WHOLE, extended, extended) == [200] * 3  # within the bounds
    assert await peer.send(*pieces) == [200] * 3 + [431]
    assert peer.transport.closing
    assert connections.closed == {"headers_long": 1}


@pytest.mark.parametrize(
    ("head", "status"),
    [(b"HTTP/1.1\r\n", 400), (b"HTTP/1.1\r\nHost: a\r\nHost: b\r\n", 400),
     (b"HTTP/1.1\r\nHost: a\r\nhOST: a\r\n", 400), (b"HTTP/1.1\r\nHost: a\r\n", 200),
     (b"HTTP/1.0\r\nHost: a\r\nHost: b\r\n", 400), (b"HTTP/1.0\r\n", 200)],
)  # fmt: skip
async def test_a_request_names_one_host(head: bytes, status: int) -> None:
    connections = bounded()
    peer = Peer(connections)
    assert await peer.send(b"GET / " + head + b"\r\n") == [status]
    assert peer.transport.closing == (status == 400 or b"1.0" in head)
    assert connections.closed == ({"host": 1} if status == 400 else {})


async def test_pipelined_requests_are_bounded() -> None:
    connections = bounded()
    polite, greedy = Peer(connections), Peer(connections)
    assert await polite.send(WHOLE * PIPELINED) == [200] * PIPELINED
    await greedy.send(WHOLE * 1_000)
    assert greedy.transport.closing
    assert connections.closed == {"pipelined": 1}


@pytest.mark.parametrize(
    ("sent", "statuses"),
    [(b"", [408]), (HEAD, [408]), (WHOLE[:-1], [408]), (WHOLE, [200]), (WHOLE + HEAD, [200, 408]),
     (WHOLE + b"\r\n\r\n", [200])],
)  # fmt: skip
async def test_late_requests_get_408_and_newlines_are_none(sent: bytes, statuses: list[int]) -> None:
    connections = bounded(header_s=-1, body_s=-1, keep_alive_s=-1)
    peer = Peer(connections)
    await peer.send(sent)
    await connections.sweep()
    assert await peer.send() == statuses
    assert peer.transport.closing


async def test_a_connection_without_room_gets_503() -> None:
    connections = bounded(connections=1)
    first = Peer(connections)
    first.http.data_received(WHOLE)
    second = Peer(connections)
    assert await second.send() == [503]
    assert second.transport.closing
    assert await first.send() == [200]
    assert connections.closed == {"no_room": 1}


async def test_a_websocket_is_counted_until_it_ends() -> None:
    connections = bounded(header_s=-1, body_s=-1, keep_alive_s=-1)
    peer = Peer(connections)
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
    await peer.send(b"GET /ui HTTP/1.1\r\nHost: gateway\r\n" + upgrade + b"A" * 22 + b"==\r\n\r\n")
    assert peer.http.stage is Stage.ANSWER
    await connections.sweep()
    assert len(connections) == 1
    peer.transport.close()
    await connections.sweep()
    assert len(connections) == 0


async def test_invalid_http_is_counted() -> None:
    connections = bounded()
    assert await Peer(connections).send(b"\x00\x01\r\n\r\n") == [400]
    assert connections.closed == {"invalid": 1}
