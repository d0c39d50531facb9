"""What stands before every route: the token, limits on rate, bodies and requests in work.

Bounds on what clients can ask of the gateway: how many at a time, how often, how long a body.

A request counts as one in work when it is whole. What is still arriving is bounded by `Connections`.
"""

from __future__ import annotations

import base64
import binascii
import math
import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.gateway.options import GatewayOptions

CALL = "botify.call"
"""The request's `RequestId`."""

BODY = "botify.body"
"""The whole body, bytes, where it was read already."""

RETRY_AFTER_S = 1


async def refuse(
    scope: Scope,
    receive: Receive,
    send: Send,
    status: int,
    detail: str,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Answer with a status and, as FastAPI does, a detail."""
    await JSONResponse({"detail": detail}, status, dict(headers or {}))(scope, receive, send)


CLIENTS = 10_000
BURST_S = 1.0
"""How long a client that was silent may save up."""


class RateLimit:
    """So many requests a second of each client.

    Parameters
    ----------
    rate_per_s : float
    clients : int
        How many are remembered; one that is forgotten starts anew.

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
        self._most = max(1.0, rate_per_s * BURST_S)
        self._clients = clients
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # client -> requests left, as of when

    def wait_s(self, client: str, now_s: float) -> float:
        """Count a request; return 0 where it may pass, and otherwise how long until one may.

        Parameters
        ----------
        client : str
        now_s : float
            Monotonic clock.
        """
        left, since_s = self._left.pop(client, (self._most, now_s))
        left = min(self._most, left + (now_s - since_s) * self._rate_per_s)
        passes = left >= 1.0
        self._left[client] = (left - passes, now_s)
        if len(self._left) > self._clients:
            self._left.popitem(last=False)
        return 0.0 if passes else (1.0 - left) / self._rate_per_s


OPEN = frozenset({"/healthz", "/readyz"})
"""For whoever starts and watches processes; they say nothing about listeners."""


class TokenRequired:
    """Refuses whoever does not bring the token with 401.

    Programs bring it as a bearer token; a browser, which cannot, asks its user for it as the password of any name.

    Parameters
    ----------
    app : ASGI application
    token : str
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve."""
        if scope["type"] == "lifespan" or scope["path"] in OPEN or self._brought_by(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()  # the handshake must be heard before it is refused
            await send({"type": "websocket.close", "code": 1008})
        else:
            asked = {"WWW-Authenticate": 'Bearer realm="botify", Basic realm="botify"'}
            detail = "this gateway wants its token: Authorization: Bearer <BOTIFY_GATEWAY_TOKEN>"
            await refuse(scope, receive, send, 401, detail, asked)

    def _brought_by(self, scope: Scope) -> bool:
        given = token_of(Headers(scope=scope).get("authorization", ""))
        return given is not None and secrets.compare_digest(given, self._token)


def token_of(authorization: str) -> bytes | None:
    """Return the token in a header, None where there is none.

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
    except binascii.Error:
        return None


LIMITED = ("/next/", "/last/", "/track/")


class Limits:
    """Lets through what is within the bounds of the options, with the body read whole.

    Parameters
    ----------
    app : ASGI application
    options : GatewayOptions
    """

    def __init__(self, app: ASGIApp, options: GatewayOptions) -> None:
        self._app = app
        self._options = options
        self._in_flight = 0
        self._rate = RateLimit(options.rate_per_s) if options.rate_per_s else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve."""
        if scope["type"] != "http" or not scope["path"].startswith(LIMITED):
            await self._app(scope, receive, send)
            return
        if self._rate is not None:
            client = scope["client"][0] if scope["client"] else ""
            if wait_s := self._rate.wait_s(client, time.monotonic()):
                detail = f"more than {self._options.rate_per_s} requests a second from {client}"
                await refuse(scope, receive, send, 429, detail, {"Retry-After": str(math.ceil(wait_s))})
                return
        most = self._options.body_bytes
        try:
            body = await _body(scope, receive, most)
        except _TooLongError:
            await refuse(scope, receive, send, 413, f"the body is longer than {most} bytes", {"Connection": "close"})
            return
        if body is None:
            return
        if self._in_flight >= self._options.in_flight:
            detail = f"{self._in_flight} requests are in work already"
            await refuse(scope, receive, send, 503, detail, {"Retry-After": str(RETRY_AFTER_S)})
            return
        scope[BODY] = body
        read: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive_again() -> Message:
            return read.pop() if read else await receive()

        self._in_flight += 1
        try:
            await self._app(scope, receive_again, send)
        finally:
            self._in_flight -= 1


class _TooLongError(Exception):
    pass


async def _body(scope: Scope, receive: Receive, most: int) -> bytes | None:
    """Return the whole body; None where the connection was closed before it had come."""
    declared = Headers(scope=scope).get("content-length", "")
    if declared.isdecimal() and int(declared) > most:
        raise _TooLongError
    body, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > most:
            raise _TooLongError
    return bytes(body)
