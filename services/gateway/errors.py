"""What the gateway cannot do, and what clients are told then."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from core.errors import BotifyError
from services.gateway.middleware import RETRY_AFTER_S

NO_CATALOGUE = "the catalogue is empty; `botify world publish` or a simulation fills it"
"""What `/readyz` says of a gateway that waits for nothing else."""


class UnavailableError(BotifyError):
    """Kafka or Redis cannot be used at the moment; the client may come again (503)."""


class UnknownTrackError(BotifyError):
    """The catalogue has no such track (404 where it was asked for, 422 where it was said to be heard)."""


ANSWERED = (UnavailableError, UnknownTrackError)
"""Errors of the service that have a response."""

_TELLING = ("type", "loc", "msg")


def answer_to(error: Exception) -> Response:
    """Return the response to an error of a listener's call."""
    if isinstance(error, UnavailableError):
        return JSONResponse({"detail": str(error)}, 503, {"Retry-After": str(RETRY_AFTER_S)})
    return _invalid([{"type": "unknown_track", "loc": ("body", "track"), "msg": str(error)}])


async def unavailable(_: Request, error: Exception) -> Response:
    """Ask to come again (503)."""
    return answer_to(error)


async def unknown_track(request: Request, error: Exception) -> Response:
    """Say that a track was not found; in a body it is a wrong field."""
    if request.url.path.startswith("/track/"):
        return JSONResponse({"detail": str(error)}, 404)
    return answer_to(error)


async def invalid(_: Request, error: Exception) -> Response:
    """Say which fields are wrong, and why (422).

    FastAPI's own handler says the field's value too, which fails where the value has no JSON (NaN, half a character).
    """
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for these only
    return _invalid(error.errors())


def _invalid(errors: Sequence[Any]) -> Response:
    return JSONResponse({"detail": [{name: error[name] for name in _TELLING} for error in errors]}, 422)
