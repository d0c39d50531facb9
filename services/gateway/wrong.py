"""Errors as responses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from services.gateway.errors import UnavailableError, UnknownTrackError
from services.gateway.refusals import RETRY_AFTER_S

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
