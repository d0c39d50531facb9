"""`python -m examples.shop` serves the shop on http://127.0.0.1:8080, from the gateway at BOTIFY_URL.

The browser never talks to the gateway, and never says who it is: a visitor is a random name in a cookie, which the
server set, and the token of `BOTIFY_TOKEN` stays here (docs/security.md).
"""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from botify.client import AsyncBotify, BotifyClientError, Event

PAGE = Path(__file__).with_name("page.html")
VISITOR = "visitor"  # the cookie
A_YEAR_S = 365 * 24 * 3600
KINDS = {"play": Event.listen, "skip": Event.skip, "like": Event.like, "dislike": Event.dislike}


async def page(request: Request) -> Response:
    """Return the page, to a new visitor with a name."""
    answer = HTMLResponse(PAGE.read_text(encoding="utf-8"))
    name = request.cookies.get(VISITOR) or f"visitor-{uuid.uuid4()}"
    answer.set_cookie(VISITOR, name, max_age=A_YEAR_S, httponly=True, samesite="strict")
    return answer


async def items(request: Request) -> Response:
    """Return ten items for the visitor."""
    shown = await request.app.state.botify.recommendations(_visitor(request), 10, explain=True)
    listed = [
        {"item": one.item, "title": one.title, "artist": one.artist, "why": one.reason.text if one.reason else ""}
        for one in shown.items
    ]
    return JSONResponse({"visitor": _visitor(request), "items": listed})


async def event(request: Request) -> Response:
    """Take what the visitor did with an item: `{"kind": "play", "item": "t-1"}`."""
    try:
        said = await request.json()
        made = KINDS[said["kind"]](_visitor(request), said["item"])
    except (ValueError, KeyError, TypeError) as error:
        raise HTTPException(422, f"kind is one of {', '.join(KINDS)}, and item names an item") from error
    await request.app.state.botify.send(made)
    return Response(status_code=204)


def _visitor(request: Request) -> str:
    if not (name := request.cookies.get(VISITOR)):
        raise HTTPException(401, "no visitor: load the page first")
    return name


async def failed(_: Request, error: Exception) -> Response:
    """Say that the gateway refused the call, or does not answer."""
    return JSONResponse({"detail": str(error)}, status_code=502)


def build_app(url: str, token: str | None = None, transport: Any = None) -> Starlette:
    """Return the shop as an ASGI application; `transport` is httpx's, for tests."""

    @asynccontextmanager
    async def connected(app: Starlette) -> AsyncIterator[None]:
        async with AsyncBotify(url, token=token, transport=transport) as app.state.botify:
            yield

    return Starlette(
        routes=[Route("/", page), Route("/items", items), Route("/events", event, methods=["POST"])],
        exception_handlers={BotifyClientError: failed},
        lifespan=connected,
    )


if __name__ == "__main__":
    gateway = os.environ.get("BOTIFY_URL", "http://127.0.0.1:8000")
    port = int(os.environ.get("PORT", "8080"))
    uvicorn.run(build_app(gateway, os.environ.get("BOTIFY_TOKEN")), host="127.0.0.1", port=port)
