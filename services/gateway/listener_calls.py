"""The two calls of a listener, from what was heard to the response."""

from __future__ import annotations

from starlette.responses import Response

from services.gateway.backend import Backend
from services.gateway.messages import Heard
from services.gateway.metrics import GatewayMetrics
from services.gateway.service import Call

JSON = "application/json"
FALLBACK_HEADER = "X-Botify-Fallback"


class ListenerCalls:
    """Makes Botify's answers; raises as `GatewayService.next`.

    Parameters
    ----------
    backend : Backend
    metrics : GatewayMetrics
    """

    def __init__(self, backend: Backend, metrics: GatewayMetrics) -> None:
        self._backend = backend
        self._metrics = metrics

    async def next(self, heard: Heard, call: Call) -> Response:
        """Return the next track."""
        answer = await self._backend.service.next(heard, call)
        response = Response(b'{"user":%d,"track":%d}' % (heard.user, answer.track), media_type=JSON)
        if answer.fallback:
            self._metrics.fallbacks += 1
            response.headers[FALLBACK_HEADER] = "true"
        return response

    async def last(self, heard: Heard, call: Call) -> Response:
        """Confirm that the session is over."""
        await self._backend.service.last(heard, call)
        return Response(b'{"user":%d}' % heard.user, media_type=JSON)
