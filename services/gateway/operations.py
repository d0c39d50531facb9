"""For those who run the gateway: is it alive, is it ready, what does it do."""

from __future__ import annotations

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from services.gateway.backend import Backend
from services.gateway.models import TOKEN_WANTED, ReadyBody


def operations(backend: Backend, registry: CollectorRegistry) -> APIRouter:
    """Return the routes."""
    router = APIRouter(tags=["Operations"])

    @router.get("/healthz", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def alive() -> Response:
        """Answer: the event loop turns."""
        return Response(b"ok\n", media_type="text/plain")

    @router.get("/readyz", responses={503: {"model": ReadyBody, "description": "Listeners cannot be served."}})
    async def ready(response: Response) -> ReadyBody:
        """Say whether listeners can be served: catalogue read, Kafka and Redis reachable."""
        problems = backend.problems()
        response.status_code = 503 if problems else 200
        return ReadyBody(ready=not problems, problems=problems)

    @router.get(
        "/metrics", response_class=Response, responses={**TOKEN_WANTED, 200: {"content": {CONTENT_TYPE_LATEST: {}}}}
    )
    async def metrics() -> Response:
        """Return what Prometheus scrapes."""
        return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return router
