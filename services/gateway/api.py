"""Botify's REST API for listeners: the models of its requests and answers, and its operations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from pydantic import BaseModel, ConfigDict, Field, GetPydanticSchema, WithJsonSchema
from pydantic_core.core_schema import ValidatorFunctionWrapHandler, int_schema, no_info_wrap_validator_function
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from botify.schemas.external_ids import track_named
from botify.schemas.validation import MAX_NAME, MAX_TRACK
from botify.services.errors import UnknownTrackError
from botify.services.gateway.middleware import GatewayMetrics
from botify.services.gateway.operations import (
    JSON,
    REQUEST_ID,
    FieldErrorsBody,
    Operation,
    Reply,
    openapi_document,
    refusals,
)
from botify.services.gateway.service import Backend
from botify.services.gateway.sessions import ListenReport

DOCS = "/docs"
PAGES = ("/openapi.json", DOCS, "/static-offline-docs/{path:path}")
"""What is served next to the operations, to tokens that allow `serve`."""
FALLBACK_HEADER = "X-Botify-Fallback"
EVENT_HEADER = "X-Event-ID"  # id of the listen; a retry's is that of the first try


def _in_body(value: Any, number: ValidatorFunctionWrapHandler) -> int | str:
    """Return a number or an external id; 7 for 7.0, because JSON has one kind of number."""
    if isinstance(value, str):
        return value
    checked: int = number(int(value) if isinstance(value, float) and value.is_integer() else value)
    return checked


_WHOLE, _NO_NUMBER = re.compile(r"([0-9]+)\.0+"), re.compile(r"[-+][0-9]+|[-+]?[0-9]+\.[0-9]*")


def _in_path(value: str, number: ValidatorFunctionWrapHandler) -> int | str:
    if whole := _WHOLE.fullmatch(value):
        value = whole[1]
    if value in ("", '""') or _NO_NUMBER.fullmatch(value):
        raise ValueError(f"{value!r} is no id; an external id that looks like a number is written in quotes")
    return _in_body(track_named(value), number)


_NUMBER = int_schema(strict=True, ge=0, le=MAX_TRACK)
_ID = {"type": "string", "minLength": 1}
_NUMBER_OR_ID, _NUMBER_OR_ID_IN_PATH = (
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0, "maximum": MAX_TRACK}, id_]})
    for id_ in (_ID, {**_ID, "not": {"pattern": r'^([-+]?[0-9]+(\.[0-9]*)?|"")$'}})
)
TrackInBody = Annotated[
    int | str, GetPydanticSchema(lambda *_: no_info_wrap_validator_function(_in_body, _NUMBER)), _NUMBER_OR_ID
]
TrackInPath = Annotated[
    int | str, GetPydanticSchema(lambda *_: no_info_wrap_validator_function(_in_path, _NUMBER)), _NUMBER_OR_ID_IN_PATH
]
"""A number or an external id; not a union, whose errors would have another `loc`."""


class UserPath(BaseModel):
    """Parameters of a path."""

    user: str = Field(
        min_length=1,
        max_length=MAX_NAME,
        description="The listener: any name; digits are a number.",
        examples=["alice"],
    )


class TrackPath(BaseModel):
    """Parameters of a path."""

    track: TrackInPath = Field(description="The track's number, or its external id, in quotes if that is digits.")


class HeardBody(BaseModel):
    """The track that was heard, and how much of it."""

    model_config = ConfigDict(strict=True, frozen=True)

    track: TrackInBody = Field(description="A track of the catalogue, by number or external id.", examples=[7])
    time: float = Field(ge=0, le=1, allow_inf_nan=False, description="Share of it that was heard.", examples=[0.8])


class TrackCall(BaseModel):
    """A request for a track."""

    path: TrackPath


class ListenCall(BaseModel):
    """A request with a listen."""

    path: UserPath
    body: HeardBody


class NextBody(BaseModel):
    """What the listener hears next; the external id is absent where the track has none."""

    user: int | str
    track: int
    external_id: str = Field(default="", description="What the track is called where it comes from.")


class LastBody(BaseModel):
    """The session is over."""

    user: int | str


class TrackBody(BaseModel):
    """A track of the catalogue."""

    track: int
    artist: str
    title: str
    album: str | None
    genre: str | None
    external_id: str | None = Field(default=None, description="Absent where the track has none.")


class HelloBody(BaseModel):
    """Botify's greeting."""

    status: Literal["alive"] = "alive"
    message: str = "welcome to botify, the best toy music recommender"


class ReadyBody(BaseModel):
    """Whether listeners can be served, and if not, why."""

    ready: bool
    problems: list[str]


_FALLBACK = {
    FALLBACK_HEADER: {
        "schema": {"type": "string", "enum": ["true"]},
        "description": "The recommender was too late: this is one of the popular tracks.",
    }
}
_OK = "Successful Response"


class BotifyApi:
    """Serves the operations; a browser that asks for `/` is sent to `home`."""

    def __init__(self, backend: Backend, metrics: GatewayMetrics, registry: CollectorRegistry, home: str) -> None:
        self._backend = backend
        self._metrics = metrics
        self._registry = registry
        self._home = home
        plain, scrape = Reply(_OK, "text/plain"), Reply(_OK, CONTENT_TYPE_LATEST)
        token = refusals(401, 403)
        refused = {**refusals(401, 403, 429, 503), **refusals(422, content=FieldErrorsBody)}
        of_body = {**refused, **refusals(400, 408, 413)}
        greeting = {200: Reply(_OK, HelloBody), 307: Reply("For a browser.", None), **token}
        found = {200: Reply(_OK, TrackBody), 404: Reply("No such track."), **refused}
        following = {200: Reply(_OK, NextBody, _FALLBACK), **of_body}
        over = {200: Reply(_OK, LastBody), **of_body}
        readiness = {200: Reply(_OK, ReadyBody), 503: Reply("Listeners cannot be served.", ReadyBody)}
        self.operations = [
            Operation("POST", "/next/{user:name}", self.next_track, following, "serve", ListenCall),
            Operation("POST", "/last/{user:name}", self.last_track, over, "serve", ListenCall),
            Operation("GET", "/track/{track:name}", self.track, found, "serve", TrackCall),
            Operation("GET", "/", self.hello, greeting, "serve"),
            Operation("GET", "/healthz", self.alive, {200: plain}, None, tag="Operations"),
            Operation("GET", "/readyz", self.ready, readiness, None, tag="Operations"),
            Operation("GET", "/metrics", self.metrics, {200: scrape, **token}, "serve", tag="Operations"),
        ]

    def pages(self, *, secured: bool) -> list[BaseRoute]:
        """Return the routes of the OpenAPI document and of its page."""
        document = openapi_document(self.operations, secured=secured)
        page = Path(__file__).with_name("docs.html").read_text(encoding="utf-8")
        return [
            Route("/openapi.json", JSONResponse(document), methods=["GET"]),
            Route(DOCS, HTMLResponse(page), methods=["GET"]),
            # Swagger UI from a package, which is not imported: a page that asks a CDN does not work offline
            Mount("/static-offline-docs", StaticFiles(packages=[("fastapi_offline", "static")])),
        ]

    async def hello(self, request: Request, _: None) -> Response:
        """Say that the gateway is there."""
        if "text/html" in request.headers.get("accept", ""):
            return RedirectResponse(self._home)
        return _json(HelloBody())

    async def track(self, _: Request, call: TrackCall) -> Response:
        """Return a track of the catalogue."""
        try:
            found = await self._backend.connected.service.track(call.path.track)
        except UnknownTrackError as error:
            raise HTTPException(404, str(error)) from error
        return _named(TrackBody, found._asdict())

    async def next_track(self, request: Request, call: ListenCall) -> Response:
        """Tell what a listener heard, and get what they hear next."""
        report = await self._report_of(request, call)
        service = self._backend.connected.service
        answer = await service.next(report, request.scope[REQUEST_ID])
        user = service.names.known_as(call.path.user)
        fields = {"user": user, "track": answer.track, "external_id": answer.external_id}
        response = _named(NextBody, fields, {EVENT_HEADER: answer.event_id})
        if answer.fallback:
            self._metrics.fallbacks += 1
            response.headers[FALLBACK_HEADER] = "true"
        return response

    async def last_track(self, request: Request, call: ListenCall) -> Response:
        """Tell the last track that a listener heard: the session is over."""
        report = await self._report_of(request, call)
        service = self._backend.connected.service
        event_id = await service.last(report, request.scope[REQUEST_ID])
        return _json(LastBody(user=service.names.known_as(call.path.user)), headers={EVENT_HEADER: event_id})

    async def _report_of(self, request: Request, call: ListenCall) -> ListenReport:
        service = self._backend.connected.service
        # before the name is published: a refused call publishes nothing
        number = (await service.track(call.body.track)).track
        user = await service.names.number_of(call.path.user, request.scope[REQUEST_ID].id_)
        return ListenReport(user, number, call.body.time)

    async def alive(self, _: Request, __: None) -> Response:
        """Answer: the event loop turns."""
        return Response(b"ok\n", media_type="text/plain")

    async def ready(self, _: Request, __: None) -> Response:
        """Say whether listeners can be served: catalogue read, Kafka and Redis reachable."""
        problems = self._backend.problems()
        return _json(ReadyBody(ready=not problems, problems=problems), 503 if problems else 200)

    async def metrics(self, _: Request, __: None) -> Response:
        """Return what Prometheus scrapes."""
        return Response(generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _json(body: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(body.model_dump_json(), status, headers, JSON)


def _named(model: type[BaseModel], fields: dict[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    """Return a body that has no external id where the track has none."""
    if fields["external_id"] is None:
        del fields["external_id"]
    return Response(model(**fields).model_dump_json(exclude_unset=True), 200, headers, JSON)
