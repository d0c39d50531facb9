"""Hostile calls of every route, as bytes of a connection: none answers 500, and a refused one stores nothing."""

import asyncio
import itertools
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
from starlette.applications import Starlette

from botify.core.settings import Settings
from botify.schemas.external_ids import UserIds
from botify.services.gateway import Bounds, GatewayOptions, state
from botify.services.gateway.bootstrap import build_app
from botify.services.gateway.connections import Connections
from tests.unit.services.gateway.fakes import CODEC, FakeGateway, operations_of
from tests.unit.services.gateway.test_connections_http import Peer

CALLS = 700
EVIL = b"evil.example"
SEGMENTS = [
    b"", b"7", b"42", b"new", b"-1", b"-0", b"+7", b"7.0", b"1e3", b"2147483647", b"2147483648", b"9" * 5_000,
    b"%22%22", b"%22-1%22", b"%ED%A0%80", b"%FF%FE", b"%00", b"%0D%0AX:%201", b"%D9%A3", b"%F0%9F%8E%B5", b"%2F",
    b"..%2F..%2Fetc", b"//" + EVIL, b"%", b"%zz", b"{user}", b"*", b"a" * 5_000, b"recommendations", b"none/similar",
    b"7?a=1", b"%3F%23",
]  # fmt: skip
VALUES = [
    b"", b"7", b"-1", b"NaN", b"1e2", b"9" * 5_000, b"%ED%A0%80", b"%FF", b"%00", b"o1", b"o%D9%A3", b"1d", b"true",
    b"genre:%ED%B0%80", b"genre:.*", b"," * 3_000, b"%22%22", b"+", b"a" * 300, b"%", b"=", b";",
]  # fmt: skip
NAMES = [b"n", b"exclude", b"filter", b"session", b"explain", b"limit", b"cursor", b"half_life", b"%ED%A0%80", b""]
HEADERS = [
    b"Host: " + EVIL, b"X-Forwarded-Host: " + EVIL, b"X-Forwarded-For: 10.0.0.1", b"X-Request-ID: \xff\xfe",
    b"X-Request-ID: " + b"a" * 200, b"Idempotency-Key: k", b"Idempotency-Key: \xed\xa0\x80", b"Idempotency-Key:",
    b"Authorization: Basic \xc3\xa9", b"Authorization: Basic YQ==", b"Authorization: Bearer \xff", b"Authorization:",
    b"Content-Type: application/json; charset=utf-16", b"Content-Type: text/plain", b"Content-Type: \xff/json",
    b"Accept: text/html", b"Content-Length: 1", b"Transfer-Encoding: chunked", b"Expect: 100-continue",
    b"Upgrade: websocket", b"Connection: upgrade", b"X-HTTP-Method-Override: DELETE", b"Cookie: " + b"a=b;" * 500,
]  # fmt: skip
LEAVES = [
    b'"\\ud800"', b'"\\udc00x"', b'"a\\ud800\\ud800"', b'""', b'"-1"', b'"\\u0000"', b"-1", b"-0", b"7", b"7.0", b"7.5",
    b"2147483647", b"2147483648", b"9" * 5_000, b"1e308", b"1e999", b"NaN", b"-Infinity", b"true", b"null", b"[]",
    b"{}", b'["\\ud800"]', b'{"\\ud800": 1}', b"[" * 300 + b"]" * 300, b'"' + b"x" * 5_000 + b'"',
    b'"2026-01-31T12:00:00Z"',
    b'"\xed\xa0\x80"', b'"\xff"', b'"new"', b'"42"', b'"alice"', b'"like"',
]  # fmt: skip
WRITES = ["/next", "/last", "/v1/events", "/v1/users", "/v1/items"]
BODIES = [
    {"track": 7, "time": 0.5},
    {"track": "new", "time": 1},
    {"kind": "like", "user": 42, "item": 7, "id": "a"},
    {"kind": "listen", "user": "42", "item": 7, "session": "s", "fraction": 1.0, "time": "2026-01-31T12:00:00Z"},
    {"events": [{"kind": "skip", "user": "42", "item": 7}, {"kind": "dislike", "user": "42", "item": 8}]},
    {"likes": [7], "dislikes": [8]},
    {"title": "t", "artist": "a", "genre": "g", "genres": ["g"], "year": 1999},
]


class Call(NamedTuple):
    method: bytes
    target: bytes
    headers: Sequence[bytes]
    body: bytes

    def sent(self) -> bytes:
        headers = list(self.headers)
        if not any(header.startswith(b"Transfer") for header in headers):
            headers.append(b"Content-Length: %d" % len(self.body))
        return b"%s %s HTTP/1.1\r\n%s\r\n\r\n%s" % (self.method, self.target, b"\r\n".join(headers), self.body)


def places_in(value: Any) -> Iterator[tuple[Any, Any]]:
    """All places of a body that hold something, with their containers."""
    for key in value if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from places_in(value[key])


def hostile_body(rng: random.Random, path: str) -> bytes:
    fitting = {"/next": BODIES[:2], "/last": BODIES[:2], "/v1/users": BODIES[5:6], "/v1/items": BODIES[6:]}
    named = next((name for name in WRITES if path.startswith(name)), "")
    body: Any = json.loads(json.dumps(rng.choice(fitting.get(named, BODIES[2:5]))))
    for at in range(rng.choice([0, 1, 1, 2])):
        where, key = rng.choice(list(places_in(body)) or [(body, "more")])
        where[key] = f"<{at}>"
    text = json.dumps(body).encode()
    for at in range(2):
        text = text.replace(b'"<%d>"' % at, rng.choice(LEAVES))
    way = rng.randrange(14)
    if way == 0:
        return text.decode("utf-8", "replace").encode(rng.choice(["utf-16", "utf-16-le", "utf-32", "utf-8-sig"]))
    if way == 1:
        return rng.choice([text[:-1], text + b"x", b"", b"\x00", b"[" * 9_000, b'{"a":' * 3_000, b"null", b'"\\ud800"'])
    return text


def hostile_calls(seed: int, templates: Sequence[tuple[str, str]]) -> Iterator[Call]:
    """Calls of all operations with one or several parts that nobody should send."""
    rng = random.Random(seed)
    turns = itertools.cycle(templates), itertools.cycle([one for one in templates if one[0] in ("POST", "PUT")])
    for number in range(CALLS):
        method, template = next(turns[number % 2])
        path = template.encode()
        if b"{" in path:
            before, rest = path.split(b"{")
            path = before + rng.choice([b"42", *SEGMENTS] if rng.random() < 0.5 else [b"7"]) + rest.partition(b"}")[2]
        if rng.random() < 0.1:
            path += rng.choice([b"/", b"//", b"/.", b";a", b"#a"])
        if rng.random() < (0.1 if method == "PUT" else 0.3):
            pairs = [rng.choice(NAMES) + b"=" + rng.choice(VALUES) for _ in range(rng.randrange(1, 4))]
            path += b"?" + b"&".join(pairs)
        kind = [b"Content-Type: application/json"] if rng.random() < 0.9 else []
        more = [rng.choice(HEADERS) for _ in range(rng.choice([0, 0, 0, 1, 2]))]
        yield Call(method.encode(), path, [b"Host: gateway", *kind, *more], hostile_body(rng, template))


async def answer_to(app: Starlette, sent: bytes) -> bytes:
    """Send bytes on a new connection, and return what was answered until it rests."""
    peer = Peer(Connections(GatewayOptions(), Bounds()), app)
    peer.http.data_received(sent)
    for _ in range(5_000):
        if peer.transport.closing or (peer.http.cycle is not None and peer.http.cycle.response_complete):
            break
        await asyncio.sleep(0)
        if peer.http.cycle is not None and peer.http.cycle.more_body:
            break  # the application waits for the rest of a body
    else:
        await asyncio.wait(peer.http.tasks)
    peer.http.connection_lost(None)
    if peer.http.tasks:
        await asyncio.wait(peer.http.tasks)
    return peer.transport.written


def stored(gateway: FakeGateway) -> str:
    rpc, listeners = gateway.rpc, gateway.listeners
    sent = len(rpc.listens), len(rpc.requests), len(rpc.published)
    return repr((sent, gateway.reader.erased, listeners.numbers, listeners.records, gateway.sessions.of_users))


@pytest.mark.parametrize("users", [UserIds(), UserIds(["alice"])], ids=["numbers", "external"])
async def test_hostile_calls_are_refused_or_served(users: UserIds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "REFRESH_AGAIN_S", 0.0)
    gateway = FakeGateway()
    gateway.service = replace(gateway.service, names=gateway.names_of(users))
    app = build_app(Settings(), GatewayOptions(), connect=gateway.connect)
    statuses: list[int] = []
    async with app.router.lifespan_context(app):
        while b" 200 OK" not in await answer_to(app, b"GET /readyz HTTP/1.1\r\nHost: gateway\r\n\r\n"):
            await asyncio.sleep(0)
        templates = [*operations_of(app)]
        assert len(templates) == 23
        for number, call in enumerate(hostile_calls(29, templates)):
            before, listens = stored(gateway), len(gateway.rpc.listens)
            answer = await answer_to(app, call.sent())
            if not answer:
                continue  # it waits for the rest of a body
            status = int(answer.split()[1])
            statuses.append(status)
            assert status < 500, (number, call, answer)
            assert EVIL not in answer.partition(b"\r\n\r\n")[0], (number, call, answer)
            if status >= 300:
                assert stored(gateway) == before, (number, call, answer)
            for listen in gateway.rpc.listens[listens:]:
                CODEC.encode(listen)
    assert {200, 400, 404, 422} <= set(statuses)
    assert sum(status == 200 for status in statuses) >= CALLS // 20
    assert len(statuses) > CALLS * 3 // 4
