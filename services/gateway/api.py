"""Botify's REST API.

A short way for the requests that listeners make all the time.

FastAPI's way through middleware, router, dependencies and validation takes 170 µs, several times what the gateway
itself has to do for a `/next`. Here a `/next` or `/last` that is in order is answered at once, by the same service and
with the same model of its body. Anything else, and anything that is wrong, goes FastAPI's way and has its error there.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Path, Request
from fastapi.responses import RedirectResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from schemas.validation import MAX_TRACK, MAX_USER
from services.gateway.bootstrap import Backend
from services.gateway.errors import ANSWERED, answer_to
from services.gateway.messages import Heard, RequestId
from services.gateway.middleware import BODY, CALL
from services.gateway.telemetry import GatewayMetrics

UserId = Annotated[int, Path(ge=0, le=MAX_USER, description="The listener.", examples=[42])]
TrackId = Annotated[int, Path(ge=0, le=MAX_TRACK, description="The track.", examples=[7])]

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[!-~]{1,128}$",
        description="The same in each retry of this call, and in no other: however often it comes, it counts once.",
    ),
]


def whole(value: Any) -> Any:
    """Return 7 for 7.0: JSON has one kind of number.

    Examples
    --------
    >>> whole(7.0), whole(7.5), whole("7")
    (7, 7.5, '7')
    """
    return int(value) if isinstance(value, float) and value.is_integer() else value


class HeardBody(BaseModel):
    """The track that was heard, and how much of it."""

    model_config = ConfigDict(strict=True, frozen=True)

    track: Annotated[int, BeforeValidator(whole)] = Field(
        ge=0, le=MAX_TRACK, description="A track of the catalogue.", examples=[7]
    )
    time: float = Field(ge=0, le=1, allow_inf_nan=False, description="Share of it that was heard.", examples=[0.8])


class NextBody(BaseModel):
    """What the listener hears next."""

    user: int
    track: int


class LastBody(BaseModel):
    """The session is over."""

    user: int


class TrackBody(BaseModel):
    """A track of the catalogue."""

    track: int
    artist: str
    title: str
    album: str | None
    genre: str | None


class HelloBody(BaseModel):
    """Botify's greeting."""

    status: Literal["alive"] = "alive"
    message: str = "welcome to botify, the best toy music recommender"


class ReadyBody(BaseModel):
    """Whether listeners can be served, and if not, why."""

    ready: bool
    problems: list[str]


class DetailBody(BaseModel):
    """What is wrong."""

    detail: str


TOKEN_WANTED: dict[int | str, dict[str, Any]] = {401: {"model": DetailBody, "description": "A token is wanted."}}
"""What OpenAPI says of routes that want the token."""


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

    async def next(self, heard: Heard, call: RequestId) -> Response:
        """Return the next track."""
        answer = await self._backend.service.next(heard, call)
        response = _response(b'{"user":%d,"track":%d}' % (heard.user, answer.track), answer.event_id)
        if answer.fallback:
            self._metrics.fallbacks += 1
            response.headers[FALLBACK_HEADER] = "true"
        return response

    async def last(self, heard: Heard, call: RequestId) -> Response:
        """Confirm that the session is over."""
        event_id = await self._backend.service.last(heard, call)
        return _response(b'{"user":%d}' % heard.user, event_id)


def _response(body: bytes, event_id: str) -> Response:
    return Response(body, headers={EVENT_HEADER: event_id}, media_type=JSON)


_DIGITS = len(str(MAX_USER))


class FastLane:
    """Answers what is in order itself.

    Parameters
    ----------
    app : ASGI application
        Answers everything else.
    calls : ListenerCalls
    """

    def __init__(self, app: ASGIApp, calls: ListenerCalls) -> None:
        self._app = app
        self._answers = {"next": calls.next, "last": calls.last}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve."""
        response = await self._answer(scope) if scope["type"] == "http" and scope["method"] == "POST" else None
        if response is None:
            await self._app(scope, receive, send)
        else:
            await response(scope, receive, send)

    async def _answer(self, scope: Scope) -> Response | None:
        _, _, rest = scope["path"].partition("/")
        name, _, user = rest.partition("/")
        answer, heard = self._answers.get(name), heard_of(user, scope)
        if answer is None or heard is None:
            return None
        try:
            return await answer(heard, scope[CALL])
        except ANSWERED as error:
            return answer_to(error)


def heard_of(user: str, scope: Scope) -> Heard | None:
    """Return what a request says; None where it is not in order.

    Examples
    --------
    >>> scope = {"headers": [(b"content-type", b"application/json")], BODY: b'{"track": 7, "time": 0.5}'}
    >>> heard_of("42", scope)
    Heard(user=42, track=7, fraction=0.5)
    >>> heard_of("-1", scope) is None
    True
    """
    if not (user.isascii() and user.isdecimal() and len(user) <= _DIGITS and int(user) <= MAX_USER):
        return None
    if Headers(scope=scope).get("content-type") != "application/json" or BODY not in scope:
        return None
    try:
        body = HeardBody.model_validate_json(scope[BODY])
    except ValidationError:
        return None
    return Heard(int(user), body.track, body.time)


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
