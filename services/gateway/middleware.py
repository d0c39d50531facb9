"""What runs before every route: request ids and metrics, the token, limits on rate, bodies and requests in progress.

A request is in progress when it has arrived completely. `Connections` bounds those that are still arriving.
"""

from __future__ import annotations

import base64
import itertools
import math
import re
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from urllib.parse import unquote_to_bytes

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from botify.core.telemetry import DurationHistogram
from botify.services.gateway import RETRY_AFTER_S, Bounds, TokenScope
from botify.services.gateway.connections import Connections
from botify.services.gateway.operations import BODY, CLIENT, KEY_PATTERN, REQUEST_ID, V1, Guard, refusal
from botify.services.gateway.sessions import RequestId


async def refuse(
    scope: Scope, receive: Receive, send: Send, status: int, detail: str, headers: Mapping[str, str] | None = None
) -> None:
    """Answer with a status and a detail."""
    await refusal(scope["path"], status, detail, headers)(scope, receive, send)


class GatewayMetrics(Collector):
    """Plain counts that become metrics when they are scraped, so that a request takes no lock."""

    def __init__(self, problems: Callable[[], list[str]], connections: Connections | None = None) -> None:
        self._problems = problems
        self._connections = connections
        self.requests: Counter[tuple[str, int]] = Counter()  # by route and status
        self.in_flight = 0
        self.fallbacks = 0
        self.next_s = DurationHistogram()

    def collect(self) -> Iterator[Metric]:
        by = ("route", "status")
        requests = CounterMetricFamily("botify_gateway_requests", "Requests, by route and status.", None, by)
        for (route, status), count in sorted(self.requests.items()):
            requests.add_metric((route, str(status)), count)
        yield requests
        late = "Tracks that were given because no recommendation came in time."
        yield CounterMetricFamily("botify_gateway_fallbacks", late, self.fallbacks)
        yield GaugeMetricFamily("botify_gateway_in_flight_requests", "Requests in progress.", self.in_flight)
        yield GaugeMetricFamily("botify_gateway_ready", "Whether listeners can be served.", float(not self._problems()))
        if self._connections is not None:
            count = len(self._connections)
            yield GaugeMetricFamily("botify_gateway_connections", "Open connections, websockets included.", count)
            about = "Connections that a bound closed, by bound."
            closed = CounterMetricFamily("botify_gateway_connections_closed", about, None, ("bound",))
            for bound, count in sorted(self._connections.closed.items()):
                closed.add_metric((bound,), count)
            yield closed
        yield self.next_s.family("botify_gateway_next_duration_seconds", "How long clients waited for the next track.")


CLIENT_CLOSED = 499  # status under which a request is counted whose connection was closed before an answer was sent
_KEY = re.compile(KEY_PATTERN.encode())
_ROUTES = frozenset({"", "next", "last", "track", "healthz", "readyz", "metrics", "docs", "openapi.json", "ui", "v1"})
_NO_TEXT = "the address is not text in UTF-8"
_INVALID_KEY = "Idempotency-Key: a key has 1 to 128 printable ASCII characters and no spaces"


class RequestTelemetry:
    """Gives each HTTP request an id, returns it in the answer, and counts the request.

    A client's own id is kept if it is valid; ours begin with a prefix that no other gateway has. An invalid key is
    refused: without it a retry might count twice. So is an address that is no text: its wrong bytes would all be
    replaced by one character, and two names become one.
    """

    def __init__(self, app: ASGIApp, id_prefix: str, metrics: GatewayMetrics) -> None:
        self._app = app
        self._id_prefix = id_prefix
        self._metrics = metrics
        self._numbers = itertools.count()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])  # `Headers` takes ten times as long
        given, key = headers.get(b"x-request-id", b""), headers.get(b"idempotency-key")
        client_id = given if _KEY.fullmatch(given) else None
        id_, key_text = f"{self._id_prefix}-{next(self._numbers)}", None if key is None else key.decode("latin-1")
        request_id = scope[REQUEST_ID] = RequestId(id_, client_id, key_text)
        header = (b"x-request-id", client_id or request_id.id_.encode())
        status = CLIENT_CLOSED

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
            if not _is_text(scope.get("raw_path") or b"") or not _is_text(scope["query_string"]):
                await refuse(scope, receive, send_with_id, 422, _NO_TEXT)
            elif key is None or _KEY.fullmatch(key):
                await self._app(scope, receive, send_with_id)
            else:
                await refuse(scope, receive, send_with_id, 400, _INVALID_KEY)
        except Exception:
            status = 500 if status == CLIENT_CLOSED else status  # what the client sees of it
            raise
        finally:
            self._metrics.in_flight -= 1
            self._metrics.requests[route, status] += 1
            if route == "/next":
                self._metrics.next_s.update((time.perf_counter() - began_s,))


def _is_text(encoded: bytes) -> bool:
    try:
        return b"%" not in encoded or bool(unquote_to_bytes(encoded).decode())
    except UnicodeDecodeError:
        return False


def route_of(path: str) -> str:
    """Return the label under which a request is counted; there are few, also where clients invent paths."""
    first = path.split("/", 2)[1] if path.startswith("/") else path
    return f"/{first}" if first in _ROUTES else "other"


class TokenRequired:
    """Refuses requests without a token with 401, and those whose token does not allow them with 403.

    The first guard that fits decides, as the first route that fits serves. What has no guard, such as the dashboard, is
    for `admin`. A browser cannot send a bearer token: it sends the token as the password of any name.
    """

    def __init__(
        self, app: ASGIApp, tokens: Mapping[bytes, frozenset[TokenScope]], guards: Sequence[Guard] = ()
    ) -> None:
        self._app = app
        self._tokens = list(enumerate(tokens.items(), 1))
        self._guards = guards

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wanted = None if scope["type"] == "lifespan" else self._wanted(scope)
        allowed = None if wanted is None else self._allowed(scope)
        if wanted is None or (allowed is not None and wanted in allowed):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()  # ASGI: the handshake is received before it is refused
            await send({"type": "websocket.close", "code": 1008})
        elif allowed is not None:
            await refuse(scope, receive, send, 403, f"this takes a token that allows `{wanted}`")
        else:
            challenge = {"WWW-Authenticate": 'Bearer realm="botify", Basic realm="botify"'}
            detail = "this gateway wants a token of BOTIFY_GATEWAY_TOKEN: Authorization: Bearer <token>"
            await refuse(scope, receive, send, 401, detail, challenge)

    def _wanted(self, scope: Scope) -> TokenScope | None:
        method, path = scope.get("method"), scope["path"]
        for of, paths, wanted in self._guards:
            if of == method and paths.match(path):
                return wanted
        return "admin"

    def _allowed(self, scope: Scope) -> frozenset[TokenScope] | None:
        """Return what the request's token allows, None without one; each is compared, so the time says nothing."""
        header = dict(scope["headers"]).get(b"authorization", b"")
        given, found = token_of(header.decode("latin-1")), None
        for number, (token, allowed) in self._tokens:
            if given is not None and secrets.compare_digest(given, token):
                found, scope[CLIENT] = allowed, f"token {number}"
        return found


def token_of(authorization: str) -> bytes | None:
    """Return the token in a header, None if there is none.

    Examples
    --------
    >>> token_of("Bearer secret")
    b'secret'
    >>> token_of("Basic " + base64.b64encode(b"anyone:secret").decode())
    b'secret'
    >>> token_of("secret") is None
    True
    """
    scheme, _, rest = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip().encode("latin-1", errors="replace")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(rest, validate=True).partition(b":")[2]
    except ValueError:
        return None


CLIENTS = 10_000
BURST_S = 1.0  # a silent client may accumulate the requests of this time


class RateLimit:
    """A token bucket for each client; a client that is forgotten, because there are too many, gets a full one.

    Examples
    --------
    >>> limit = RateLimit(rate_per_s=2)
    >>> [limit.wait_s("10.0.0.7", now_s=0.0) for _ in range(3)]
    [0.0, 0.0, 0.5]
    >>> limit.wait_s("10.0.0.7", now_s=0.5)
    0.0
    """

    def __init__(self, rate_per_s: float, clients: int = CLIENTS) -> None:
        self._rate_per_s = rate_per_s
        self._capacity = max(1.0, rate_per_s * BURST_S)
        self._clients = clients
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # client -> requests left, as of when

    def wait_s(self, client: str, now_s: float) -> float:
        """Count a request; return 0 if it is allowed, and otherwise the time until one is. The clock is monotonic."""
        left, since_s = self._left.pop(client, (self._capacity, now_s))
        left = min(self._capacity, left + (now_s - since_s) * self._rate_per_s)
        allowed = left >= 1.0
        self._left[client] = (left - allowed, now_s)
        if len(self._left) > self._clients:
            self._left.popitem(last=False)
        return 0.0 if allowed else (1.0 - left) / self._rate_per_s


LIMITED = ("/next/", "/last/", "/track/", V1)
BATCHES = f"{V1}events"  # the route whose bodies may be longer


class Limits:
    """Admits requests within the bounds, and puts their bodies into the scope, under `BODY`."""

    def __init__(self, app: ASGIApp, rate_per_s: int, bounds: Bounds) -> None:
        self._app = app
        self._rate_per_s = rate_per_s
        self._bounds = bounds
        self._in_flight = 0
        self._rate = RateLimit(rate_per_s)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(LIMITED):
            await self._app(scope, receive, send)
            return
        client = scope.get(CLIENT) or (scope["client"][0] if scope["client"] else "")
        if wait_s := self._rate.wait_s(client, time.monotonic()):
            detail = f"more than {self._rate_per_s} requests a second from {client}"
            await refuse(scope, receive, send, 429, detail, {"Retry-After": str(math.ceil(wait_s))})
            return
        limit = self._bounds.batch_bytes if scope["path"] == BATCHES else self._bounds.body_bytes
        declared = dict(scope["headers"]).get(b"content-length", b"")
        is_long = declared.isdigit() and int(declared) > limit
        body = b"" if is_long else await _read_body(receive, limit)
        if body is None:
            return
        if is_long or len(body) > limit:
            detail = f"the body is longer than {limit} bytes"
            await refuse(scope, receive, send, 413, detail, {"Connection": "close"})
            return
        if self._in_flight >= self._bounds.in_flight:
            detail = f"{self._in_flight} requests are in work already"
            await refuse(scope, receive, send, 503, detail, {"Retry-After": str(RETRY_AFTER_S)})
            return
        scope[BODY] = body
        self._in_flight += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._in_flight -= 1


async def _read_body(receive: Receive, limit: int) -> bytes | None:
    """Return the body, of one that is too long only the beginning; None if the connection was closed before its end."""
    body, more = bytearray(), True
    while more and len(body) <= limit:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return bytes(body)
