"""Each request's id, and how it ended."""

from __future__ import annotations

import itertools
import re
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.gateway.messages import Call
from services.gateway.metrics import GatewayMetrics
from services.gateway.refusals import refuse
from services.gateway.scope import CALL, header_of

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
        given = header_of(scope, b"x-request-id")
        call = scope[CALL] = Call(
            f"{self._id_prefix}-{next(self._numbers)}",
            given.encode() if given is not None and _CLIENT_ID.fullmatch(given) else None,
            key := header_of(scope, b"idempotency-key"),
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
