"""What the parts of the gateway tell each other about a request, in its ASGI scope."""

from __future__ import annotations

from starlette.types import Scope

CALL = "botify.call"
"""The request's `Call`."""

BODY = "botify.body"
"""The whole body, bytes, where it was read already."""


def header_of(scope: Scope, name: bytes) -> str | None:
    """Return a header's value.

    Parameters
    ----------
    scope : Scope
    name : bytes
        In lower case.

    Examples
    --------
    >>> header_of({"headers": [(b"host", b"gateway")]}, b"host")
    'gateway'
    """
    for key, value in scope["headers"]:
        if key == name:
            return str(value, "latin-1")
    return None
