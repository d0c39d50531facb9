"""The gateway as an ASGI application."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI, Request
from fastapi.exception_handlers import request_validation_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from starlette.responses import Response

from schemas.observing.server import new_registry
from schemas.settings import Settings
from services.gateway.backend import Backend, Connect
from services.gateway.bootstrap import connect_gateway
from services.gateway.botify_api import botify_api
from services.gateway.errors import UnavailableError, UnknownTrackError
from services.gateway.limits import Limits
from services.gateway.metrics import GatewayMetrics
from services.gateway.observing import Observing
from services.gateway.operations import operations
from services.gateway.options import GatewayOptions
from services.gateway.refusals import RETRY_AFTER_S
from services.gateway.token import TokenRequired

DOCS = "/docs"


def build_app(
    settings: Settings,
    options: GatewayOptions | None = None,
    *,
    connect: Connect | None = None,
    home: str = DOCS,
) -> FastAPI:
    """Return the application; it connects when it is started.

    Parameters
    ----------
    settings : Settings
    options : GatewayOptions, optional
        The defaults if not given.
    connect : Connect, optional
        What it serves from; Kafka and Redis if not given.
    home : str
        Where a browser is sent that asks for `/`.
    """
    options = options or GatewayOptions()
    id_prefix = f"g{secrets.token_hex(6)}"
    backend = Backend(connect or partial(connect_gateway, settings, options, id_prefix))
    metrics = GatewayMetrics(backend.problems)
    registry = new_registry()
    registry.register(metrics)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await backend.start()
        try:
            yield
        finally:
            await backend.stop()

    app = FastAPIOffline(
        docs_url=DOCS,
        redoc_url=None,
        title="Botify",
        description="Tell what a listener heard, and get what they hear next.",
        lifespan=lifespan,
    )
    app.include_router(botify_api(backend, metrics, home))
    app.include_router(operations(backend, registry))
    app.add_exception_handler(UnavailableError, _unavailable)
    app.add_exception_handler(UnknownTrackError, _unknown_track)
    # the last one added is the outermost
    app.add_middleware(Limits, options=options)
    if options.token is not None:
        app.add_middleware(TokenRequired, token=options.token)
    app.add_middleware(Observing, id_prefix=id_prefix, metrics=metrics)
    return app


async def _unavailable(_: Request, error: Exception) -> Response:
    return JSONResponse({"detail": str(error)}, 503, {"Retry-After": str(RETRY_AFTER_S)})


async def _unknown_track(request: Request, error: Exception) -> Response:
    """Where the track is what the request is about it was not found; in a body it is a wrong field."""
    if request.url.path.startswith("/track/"):
        return JSONResponse({"detail": str(error)}, 404)
    wrong = RequestValidationError([{"type": "unknown_track", "loc": ("body", "track"), "msg": str(error)}])
    return await request_validation_exception_handler(request, wrong)
