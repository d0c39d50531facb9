"""The routes of `/v1`: requests are validated, served, and answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from botify.schemas.external_ids import UserIdError, UserIds
from botify.services.gateway.api import InvalidRequestError, parsed_body
from botify.services.gateway.messages import (
    UnavailableError,
    UnknownItemError,
    UnknownTrackError,
    WrongEventError,
)
from botify.services.gateway.middleware import REQUEST_ID
from botify.services.gateway.openapi import JSON, Operation, Reply, openapi_document
from botify.services.gateway.options import RETRY_AFTER_S, TokenScope
from botify.services.gateway.v1 import models
from botify.services.gateway.v1.events import EventIntake
from botify.services.gateway.v1.items import Items
from botify.services.gateway.v1.problems import MEDIA_TYPE, Problem, problem
from botify.services.gateway.v1.recommending import Recommending, fields_of
from botify.services.gateway.v1.users import Users

OPENAPI = "/v1/openapi.json"
_RETRY_AFTER = {"Retry-After": {"schema": {"type": "string"}, "description": "Seconds."}}


def _refused(description: str, **headers: Any) -> Reply:
    return Reply(description, Problem, headers, MEDIA_TYPE)


_REFUSALS = {
    400: _refused("The body is not text in UTF-8, or the key cannot be used."),
    401: _refused("A token is wanted."),
    403: _refused("The token does not allow this."),
    408: _refused("The body did not arrive in time."),
    413: _refused("The body is too long."),
    422: _refused("A field is wrong, or not known."),
    429: _refused("Too many requests from this client.", **_RETRY_AFTER),
    503: _refused("Kafka or Redis is unavailable, or too many requests are in progress.", **_RETRY_AFTER),
}
_LATER = {202: Reply("It takes longer: ask where the listener's `erasure` stands.", models.ErasureStatus)}
_NOT_FOUND = {404: _refused("It does not exist."), **_REFUSALS}


@dataclass(frozen=True, slots=True)
class V1:
    """What serves `/v1`."""

    recommending: Recommending
    events: EventIntake
    items: Items
    users: Users


HANDLED_ERRORS = (UnknownItemError, WrongEventError)
"""Beside those of Botify's REST API."""


def problem_of(error: Exception) -> Response:
    """Return the answer to an error that is handled."""
    match error:
        case HTTPException():
            return problem(error.status_code, error.detail, error.headers)
        case UnavailableError():
            return problem(503, str(error), {"Retry-After": str(RETRY_AFTER_S)})
        case UnknownItemError() | UnknownTrackError():
            return problem(404, str(error))
        case WrongEventError():
            where, why = error.args
            return problem(422, "an event cannot be accepted", errors=[{"loc": where, "msg": why}])
        case InvalidRequestError():
            return problem(422, "the request does not have the form that is asked for", errors=error.args[0])
    return problem(500, type(error).__name__)


Call = TypeVar("Call", bound=BaseModel)


def read_call(request: Request, call: type[Call]) -> Call:
    """Validate a request; raises `InvalidRequestError`, or `HTTPException` for a body that is no text."""
    parts: dict[str, Any] = {}
    if "path" in call.model_fields:
        parts["path"] = request.path_params
    if "query" in call.model_fields:
        found: dict[str, list[str]] = {}
        # as Starlette's `query_params` does, which costs as much as all of the validation
        for name, value in parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True):
            found.setdefault(name, []).append(value)
        parts["query"] = {name: values if len(values) > 1 else values[0] for name, values in found.items()}
    elif request.query_params:
        raise InvalidRequestError([{"loc": ("query", name), "msg": "not known"} for name in request.query_params])
    if "body" in call.model_fields:
        parts["body"] = parsed_body(request)
        if call is models.EventsCall:
            # which of the two is meant is said here: errors of a union name both
            many = isinstance(parts["body"], dict) and "events" in parts["body"]
            return _validated(_ManyEvents if many else _OneEvent, parts)  # type: ignore[return-value]
    return _validated(call, parts)


class _OneEvent(models.Strict):
    body: models.Event


class _ManyEvents(models.Strict):
    body: models.Events


def _validated(call: type[Call], parts: dict[str, Any]) -> Call:
    try:
        return call.model_validate(parts)
    except ValidationError as error:
        raise InvalidRequestError(
            error.errors(include_url=False, include_context=False, include_input=False)
        ) from error


class _Resource:
    """Serves all methods of a path; another method is refused, although a longer path might match this one too."""

    def __init__(self, operations: Mapping[str, Operation]) -> None:
        self._operations = operations

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve."""
        operation = self._operations.get(scope["method"])
        if operation is None:
            raise HTTPException(405, headers={"Allow": ", ".join(sorted(self._operations))})
        response = await operation.serve(Request(scope))
        await response(scope, receive, send)


class V1Api:
    """Handlers of all routes."""

    def __init__(self, of: Callable[[], V1], users: UserIds, on_fallback: Callable[[], None]) -> None:
        self._of = of
        self._users = users
        self._on_fallback = on_fallback

        def operation(
            method: str, path: str, serve: Any, body: type[BaseModel], call: Any, scope: TokenScope = "serve"
        ) -> Operation:
            replies = {200: Reply("Successful Response", body), **(_NOT_FOUND if "{" in path else _REFUSALS)}
            return Operation(method, f"/v1/{path}", serve, replies, scope, call, "v1")

        erase = operation("DELETE", "users/{user:path}", self.delete_user, models.Erased, models.UserCall, "admin")
        self.operations = [
            operation(
                "GET",
                "users/{user:path}/recommendations",
                self.recommendations,
                models.Recommendations,
                models.RecommendationsCall,
            ),
            operation("GET", "users/{user:path}/erasure", self.erasure, models.ErasureStatus, models.UserCall),
            operation("GET", "users/{user:path}", self.user, models.User, models.UserCall),
            operation("PUT", "users/{user:path}", self.put_user, models.User, models.PutUserCall, "write"),
            erase._replace(replies={**erase.replies, **_LATER}),
            operation("POST", "events", self.events, models.Accepted, models.EventsCall, "write"),
            operation("GET", "items/{item:path}/similar", self.similar, models.ItemPage, models.SimilarCall),
            operation("GET", "items/{item:path}", self.item, models.Item, models.ItemCall),
            operation("PUT", "items/{item:path}", self.put_item, models.Item, models.PutItemCall, "admin"),
            operation("DELETE", "items/{item:path}", self.delete_item, models.Item, models.ItemCall, "admin"),
            operation("GET", "popular", self.popular, models.ItemPage, models.PopularCall),
            operation("GET", "rising", self.rising, models.ItemPage, models.PageCall),
            operation("GET", "latest", self.latest, models.ItemPage, models.PageCall),
        ]

    def routes(self, *, secured: bool) -> list[BaseRoute]:
        """Return the routes, that of the OpenAPI document included."""
        document = openapi_document(self.operations, secured=secured, title="Botify v1", about="Recommendations.")
        by_path: dict[str, dict[str, Operation]] = {}
        for operation in self.operations:
            by_path.setdefault(operation.path, {})[operation.method] = operation
        return [
            *(Route(path, _Resource(operations)) for path, operations in by_path.items()),
            Route(OPENAPI, JSONResponse(document), methods=["GET"]),
        ]

    async def recommendations(self, request: Request) -> Response:
        """Recommend items, without a listen."""
        call = read_call(request, models.RecommendationsCall)
        user, name = self._user(call.path.user)
        found = await self._of().recommending.recommend(user, name, call.query, request.scope[REQUEST_ID])
        if found.fallback:
            self._on_fallback()
        return Response(found.body, media_type=JSON)

    async def events(self, request: Request) -> Response:
        """Tell what listeners did: one event, or several as `events`."""
        call = read_call(request, models.EventsCall)
        events = call.body.events if isinstance(call.body, models.Events) else [call.body]
        return _json(models.Accepted(ids=await self._of().events.take(events, request.scope[REQUEST_ID])))

    async def user(self, request: Request) -> Response:
        """Return what is known of a listener."""
        return _json(await self._of().users.get(*self._user(read_call(request, models.UserCall).path.user)))

    async def put_user(self, request: Request) -> Response:
        """Replace what a listener likes and dislikes; listens stay."""
        call = read_call(request, models.PutUserCall)
        user, name = self._user(call.path.user)
        return _json(await self._of().users.put(user, name, call.body, request.scope[REQUEST_ID]))

    async def delete_user(self, request: Request) -> Response:
        """Erase a listener: the state, likes and dislikes; no replay counts the past listens any more."""
        done = await self._of().users.delete(*self._user(read_call(request, models.UserCall).path.user))
        return _json(done, 200 if isinstance(done, models.Erased) else 202)

    async def erasure(self, request: Request) -> Response:
        """Return where a listener's erasure stands."""
        return _json(await self._of().users.erasure(*self._user(read_call(request, models.UserCall).path.user)))

    async def item(self, request: Request) -> Response:
        """Return an item."""
        call = read_call(request, models.ItemCall)
        return _json(models.Item(**fields_of(await self._of().items.get(call.path.item))))

    async def put_item(self, request: Request) -> Response:
        """Add or replace an item."""
        call = read_call(request, models.PutItemCall)
        put = await self._of().items.put(call.path.item, call.body, request.scope[REQUEST_ID])
        return _json(models.Item(**fields_of(put)))

    async def delete_item(self, request: Request) -> Response:
        """Delete an item: it is never recommended again."""
        call = read_call(request, models.ItemCall)
        items = self._of().items
        found = await items.get(call.path.item)
        await items.delete(call.path.item, request.scope[REQUEST_ID])
        return _json(models.Item(**fields_of(found)))

    async def similar(self, request: Request) -> Response:
        """Return the items most similar to one."""
        call = read_call(request, models.SimilarCall)
        return _json(await self._of().items.similar(call.path.item, call.query))

    async def popular(self, request: Request) -> Response:
        """Return the most popular items."""
        call, items = read_call(request, models.PopularCall), self._of().items
        return _json(items.page(await items.charts.popular(call.query.half_life), call.query))

    async def rising(self, request: Request) -> Response:
        """Return the items that are more popular in the last hour than in the last day."""
        call, items = read_call(request, models.PageCall), self._of().items
        return _json(items.page(await items.charts.rising(), call.query))

    async def latest(self, request: Request) -> Response:
        """Return the items that were added last."""
        call = read_call(request, models.PageCall)
        return _json(self._of().items.latest(call.query))

    def _user(self, name: str) -> tuple[int, int | str]:
        """Return a listener's number and name; raises `UnknownItemError`."""
        try:
            number = self._users.number_of(name)
        except UserIdError as error:
            raise UnknownItemError(str(error)) from error
        return number, name if self._users.are_external else number


def _json(body: BaseModel, status: int = 200) -> Response:
    return Response(body.model_dump_json(exclude_none=True), status, media_type=JSON)
