"""Routes and their OpenAPI document, both made from one table of operations."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast, get_args

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from botify.services.gateway.middleware import KEY_PATTERN, Guard
from botify.services.gateway.options import TokenScope

JSON = "application/json"
_REF = "#/components/schemas/{model}"


class DetailBody(BaseModel):
    """What is wrong."""

    detail: str


class Reply(NamedTuple):
    """An answer of a route: what it means, its body's model or media type, and its headers."""

    description: str
    content: type[BaseModel] | str | None = DetailBody
    headers: Mapping[str, Mapping[str, Any]] = {}
    media_type: str = JSON


class _Endpoint:
    """Calls a handler; Starlette's own wrapper handles exceptions once more than its middleware does."""

    def __init__(self, serve: Callable[[Request], Awaitable[Response]]) -> None:
        self._serve = serve

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve."""
        response = await self._serve(Request(scope))
        await response(scope, receive, send)


class Operation(NamedTuple):
    """A route, and what the OpenAPI document says of it beside its docstring."""

    method: str
    path: str
    serve: Callable[[Request], Awaitable[Response]]
    replies: Mapping[int, Reply]  # by status
    scope: TokenScope | None  # what a token must allow; None needs no token
    call: type[BaseModel] | None = None  # the model of its path and body
    tag: str = "Botify"

    def route(self) -> Route:
        """Return Starlette's route."""
        route = Route(self.path, _Endpoint(self.serve))
        route.methods = {self.method}  # not HEAD, which Starlette adds to GET
        return route

    def guard(self) -> Guard:
        """Return what a token must allow on the route's paths."""
        return self.method, compile_path(self.path)[0], self.scope

    def part(self, name: str) -> type[BaseModel] | None:
        """Return the model of the path or of the body."""
        field = None if self.call is None else self.call.model_fields.get(name)
        return None if field is None else cast(type[BaseModel], field.annotation)

    def document(self, *, secured: bool) -> dict[str, Any]:
        """Return the OpenAPI operation object."""
        name = self.serve.__name__
        document: dict[str, Any] = {
            "tags": [self.tag],
            "summary": name.replace("_", " ").title(),
            "description": self.serve.__doc__,
            "operationId": re.sub(r"\W", "_", f"{name}{self.path.replace(':path', '')}_{self.method.lower()}"),
            "responses": {str(status): _reply_object(reply) for status, reply in self.replies.items()},
        }
        if (path := self.part("path")) is not None:
            document["parameters"] = [
                {"name": name, "in": "path", "required": True, "schema": schema}
                for name, schema in path.model_json_schema()["properties"].items()
            ]
        if (query := self.part("query")) is not None:
            # without references: a parameter has no definitions of its own
            found = query.model_json_schema()["properties"].items()
            document.setdefault("parameters", []).extend({"name": n, "in": "query", "schema": one} for n, one in found)
        if (body := self.part("body")) is not None:
            document.setdefault("parameters", []).append(_IDEMPOTENCY_KEY)
            document["requestBody"] = {"content": _content(body), "required": True}
        if secured and self.scope is not None:
            document["security"] = [{"HTTPBearer": [self.scope]}]
        return document


class DirectRoutes:
    """Serves operations whose path is a name and one parameter (`/next/{user}`) without Starlette's router.

    Router and exception handlers take a tenth of such a request. Everything else goes to the application.

    Parameters
    ----------
    error_response : callable
        Returns the answer to an exception.
    handled : tuple of exception types
        Those that have one.
    """

    def __init__(
        self,
        app: ASGIApp,
        operations: Iterable[Operation],
        error_response: Callable[[Request, Exception], Awaitable[Response]],
        handled: tuple[type[Exception], ...],
    ) -> None:
        self._app = app
        self._error_response, self._handled = error_response, handled
        self._direct = {}
        for operation in operations:
            name, _, parameter = operation.path[1:].partition("/")
            endpoint = _Endpoint(operation.serve)
            self._direct[operation.method, name] = parameter.strip("{}").removesuffix(":path"), endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve."""
        if scope["type"] == "http":
            name, _, given = scope["path"][1:].partition("/")
            found = self._direct.get((scope["method"], name))
            if found is not None and given and "/" not in given:
                parameter, endpoint = found
                scope["path_params"] = {parameter: given}
                try:
                    await endpoint(scope, receive, send)
                except self._handled as error:
                    response = await self._error_response(Request(scope), error)
                    await response(scope, receive, send)
                return
        await self._app(scope, receive, send)


_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same in each retry of this call, and in no other: however often it comes, it counts once.",
    "schema": {"type": "string", "pattern": f"^{KEY_PATTERN}$"},
}


def _content(content: Any, media_type: str = JSON) -> dict[str, Any]:
    if isinstance(content, str):
        return {content: {}}
    schemas = [{"$ref": _REF.format(model=model.__name__)} for model in _models_of(content)]
    return {media_type: {"schema": schemas[0] if len(schemas) == 1 else {"anyOf": schemas}}}


def _models_of(content: Any) -> list[type[BaseModel]]:
    """Return a model, or those of a union."""
    return list(get_args(content)) or ([content] if isinstance(content, type) else [])


def _reply_object(reply: Reply) -> dict[str, Any]:
    document: dict[str, Any] = {"description": reply.description}
    if reply.content is not None:
        document["content"] = _content(reply.content, reply.media_type)
    if reply.headers:
        document["headers"] = dict(reply.headers)
    return document


def openapi_document(
    operations: Sequence[Operation],
    *,
    secured: bool,
    title: str = "Botify",
    about: str = "Tell what a listener heard, and get what they hear next.",
) -> dict[str, Any]:
    """Return the OpenAPI document of a gateway that wants a token (secured) or none."""
    paths: dict[str, Any] = {}
    models: dict[str, type[BaseModel]] = {}
    for operation in operations:
        paths.setdefault(operation.path.replace(":path", ""), {})[operation.method.lower()] = operation.document(
            secured=secured
        )
        contents = [operation.part("body"), *(reply.content for reply in operation.replies.values())]
        models.update({model.__name__: model for content in contents for model in _models_of(content)})
    _, schemas = models_json_schema([(model, "validation") for model in models.values()], ref_template=_REF)
    components = {"schemas": schemas["$defs"]}
    if secured:
        components["securitySchemes"] = {"HTTPBearer": {"type": "http", "scheme": "bearer"}}
    info = {"title": title, "description": about, "version": "0.1.0"}
    return {"openapi": "3.1.0", "info": info, "paths": paths, "components": components}
