"""Botify's REST API: the four routes that its clients know."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from services.gateway.backend import Backend
from services.gateway.listener_calls import FALLBACK_HEADER, ListenerCalls
from services.gateway.messages import Heard
from services.gateway.models import (
    TOKEN_WANTED,
    DetailBody,
    HeardBody,
    HelloBody,
    IdempotencyKey,
    LastBody,
    NextBody,
    TrackBody,
    TrackId,
    UserId,
)
from services.gateway.scope import CALL

_RETRY_AFTER = {"headers": {"Retry-After": {"schema": {"type": "string"}, "description": "Seconds."}}}
_REFUSED: dict[int | str, dict[str, Any]] = {
    **TOKEN_WANTED,
    429: {"model": DetailBody, "description": "Too many requests from this client.", **_RETRY_AFTER},
    503: {"model": DetailBody, "description": "Kafka or Redis is away, or too much is in work.", **_RETRY_AFTER},
}
_REFUSED_WITH_BODY: dict[int | str, dict[str, Any]] = {
    **_REFUSED,
    400: {"model": DetailBody, "description": "The body is not text in UTF-8, or the key cannot be used."},
    408: {"model": DetailBody, "description": "The body did not come in time."},
    413: {"model": DetailBody, "description": "The body is too long."},
}
_NEXT: dict[int | str, dict[str, Any]] = {
    200: {
        "headers": {
            FALLBACK_HEADER: {
                "schema": {"type": "string", "enum": ["true"]},
                "description": "The recommender was too late: this is one of the popular tracks.",
            }
        }
    }
}


def botify_api(backend: Backend, calls: ListenerCalls, home: str) -> APIRouter:
    """Return the routes.

    Parameters
    ----------
    backend : Backend
    calls : ListenerCalls
    home : str
        Where a browser is sent that asks for `/`.
    """
    router = APIRouter(tags=["Botify"])

    @router.get("/", response_model=HelloBody, responses={**TOKEN_WANTED, 307: {"description": "For a browser."}})
    async def hello(request: Request) -> Any:
        """Say that the gateway is there."""
        if "text/html" in request.headers.get("accept", ""):
            return RedirectResponse(home)
        return HelloBody()

    @router.get("/track/{track}", responses={**_REFUSED, 404: {"model": DetailBody, "description": "No such track."}})
    async def track(track: TrackId) -> TrackBody:
        """Return a track of the catalogue."""
        found = await backend.service.track(track)
        return TrackBody(**found._asdict())

    @router.post("/next/{user}", response_model=NextBody, responses={**_REFUSED_WITH_BODY, **_NEXT})
    async def next_track(request: Request, user: UserId, heard: HeardBody, _: IdempotencyKey = None) -> Response:
        """Tell what a listener heard, and get what they hear next."""
        return await calls.next(Heard(user, heard.track, heard.time), request.scope[CALL])

    @router.post("/last/{user}", response_model=LastBody, responses=_REFUSED_WITH_BODY)
    async def last_track(request: Request, user: UserId, heard: HeardBody, _: IdempotencyKey = None) -> Response:
        """Tell the last track that a listener heard: the session is over."""
        return await calls.last(Heard(user, heard.track, heard.time), request.scope[CALL])

    return router
