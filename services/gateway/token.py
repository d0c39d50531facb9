"""Who may use the gateway, where a token is set."""

from __future__ import annotations

import base64
import binascii
import secrets

from starlette.types import ASGIApp, Receive, Scope, Send

from services.gateway.refusals import refuse
from services.gateway.scope import header_of

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
        given = token_of(header_of(scope, b"authorization") or "")
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
