"""The two calls of a listener, from what was heard to the response."""

from __future__ import annotations

from starlette.responses import Response

from services.gateway.backend import Backend
from services.gateway.messages import Call, Heard
from services.gateway.metrics import GatewayMetrics

JSON = "application/json"
FALLBACK_HEADER = "X-Botify-Fallback"
EVENT_HEADER = "X-Event-ID"
"""Names the listen; a retry's is that of the first try."""


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
        response = _response(b'{"user":%d,"track":%d}' % (heard.user, answer.track), answer.event_id)
        if answer.fallback:
            self._metrics.fallbacks += 1
            response.headers[FALLBACK_HEADER] = "true"
        return response

    async def last(self, heard: Heard, call: Call) -> Response:
        """Confirm that the session is over."""
        event_id = await self._backend.service.last(heard, call)
        return _response(b'{"user":%d}' % heard.user, event_id)


def _response(body: bytes, event_id: str) -> Response:
    return Response(body, headers={EVENT_HEADER: event_id}, media_type=JSON)
