"""The gateway as an ASGI application."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI, Security
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from fastapi_offline import FastAPIOffline

from core.settings import Settings
from core.telemetry import new_registry
from services.gateway.api import FastLane, ListenerCalls, botify_api, operations
from services.gateway.bootstrap import Backend, Connect, connect_gateway
from services.gateway.connections import Connections
from services.gateway.errors import UnavailableError, UnknownTrackError, invalid, unavailable, unknown_track
from services.gateway.middleware import Limits, TokenRequired
from services.gateway.options import GatewayOptions
from services.gateway.telemetry import GatewayMetrics, Observing

DOCS = "/docs"


def build_app(
    settings: Settings,
    options: GatewayOptions | None = None,
    *,
    connect: Connect | None = None,
    connections: Connections | None = None,
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
    connections : Connections, optional
        Those of the server, for the metrics.
    home : str
        Where a browser is sent that asks for `/`.
    """
    options = options or GatewayOptions()
    id_prefix = f"g{secrets.token_hex(6)}"
    backend = Backend(connect or partial(connect_gateway, settings, options, id_prefix))
    metrics = GatewayMetrics(backend.problems, connections)
    calls = ListenerCalls(backend, metrics)
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
        # we have metrics of our own, and looking for a telemetry provider costs each request 20 µs
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    # what refuses is TokenRequired; this describes it, and gives the page of the API its field for the token
    wants_token = [] if options.token is None else [Security(HTTPBearer(auto_error=False))]
    app.include_router(botify_api(backend, calls, home), dependencies=wants_token)
    app.include_router(operations(backend, registry))
    app.add_exception_handler(UnavailableError, unavailable)
    app.add_exception_handler(UnknownTrackError, unknown_track)
    app.add_exception_handler(RequestValidationError, invalid)
    # the last one added is the outermost
    app.add_middleware(FastLane, calls=calls)
    app.add_middleware(Limits, options=options)
    if options.token is not None:
        app.add_middleware(TokenRequired, token=options.token)
    app.add_middleware(Observing, id_prefix=id_prefix, metrics=metrics)
    return app
