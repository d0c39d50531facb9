"""Bounds on what clients can ask of the gateway: how many at a time, how often, how long a body.

A request counts as one in work when it is whole. What is still arriving is bounded by `Connections`.
"""

from __future__ import annotations

import math
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.gateway.options import GatewayOptions
from services.gateway.rate_limit import RateLimit
from services.gateway.refusals import RETRY_AFTER_S, refuse
from services.gateway.scope import BODY, header_of

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
    declared = header_of(scope, b"content-length") or ""
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
