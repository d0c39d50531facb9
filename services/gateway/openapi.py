"""Operations: the table from which requests are routed, guarded, and described in an OpenAPI document."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any, NamedTuple, cast, get_args

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from botify.services.gateway.calls import HANDLED_ERRORS, DetailBody, error_response
from botify.services.gateway.middleware import KEY_PATTERN, Guard
from botify.services.gateway.options import TokenScope

JSON = "application/json"
_REF = "#/components/schemas/{model}"


class Reply(NamedTuple):
    """An answer of a route: what it means, its body's model or media type, and its headers."""

    description: str
    content: type[BaseModel] | str | None = DetailBody
    headers: Mapping[str, Mapping[str, Any]] = {}
    media_type: str = JSON


_REFUSALS = {
    400: "The body is not text in UTF-8, or the key cannot be used.",
    401: "A token is wanted.",
    403: "The token does not allow this.",
    404: "It does not exist.",
    408: "The body did not arrive in time.",
    413: "The body is too long.",
    422: "A field is wrong, or not known.",
    429: "Too many requests from this client.",
    503: "Kafka or Redis is unavailable, or too many requests are in progress.",
}
_RETRY_AFTER = {"Retry-After": {"schema": {"type": "string"}, "description": "Seconds."}}


def refusals(*statuses: int, content: type[BaseModel] = DetailBody, media_type: str = JSON) -> dict[int, Reply]:
    """Return the replies of these statuses to a request that is not served."""
    return {
        status: Reply(_REFUSALS[status], content, _RETRY_AFTER if status in (429, 503) else {}, media_type)
        for status in statuses
    }


class Operation(NamedTuple):
    """A method on a path, and what the OpenAPI document says of it in addition to its docstring."""

    method: str
    path: str
    serve: Callable[[Request], Awaitable[Response]]
    replies: Mapping[int, Reply]  # by status
    scope: TokenScope | None  # what a token must allow; None needs no token
    call: type[BaseModel] | None = None  # the model of its path, query and body
    tag: str = "Botify"

    def guard(self) -> Guard:
        """Return what a token must allow on the operation's paths."""
        return self.method, compile_path(self.path)[0], self.scope

    def part(self, name: str) -> type[BaseModel] | None:
        """Return the model of the path, the query or the body."""
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
        parameters: list[dict[str, Any]] = []
        if (path := self.part("path")) is not None:
            found = path.model_json_schema()["properties"].items()
            parameters += [{"name": n, "in": "path", "required": True, "schema": schema} for n, schema in found]
        if (query := self.part("query")) is not None:
            # without references: a parameter has no definitions of its own
            found = query.model_json_schema()["properties"].items()
            parameters += [{"name": n, "in": "query", "schema": schema} for n, schema in found]
        if (body := self.part("body")) is not None:
            parameters.append(_IDEMPOTENCY_KEY)
            document["requestBody"] = {"content": _content(body), "required": True}
        if parameters:
            document["parameters"] = parameters
        if secured and self.scope is not None:
            document["security"] = [{"HTTPBearer": [self.scope]}]
        return document


class Operations:
    """Middleware that serves operations; other paths go to the application.

    Paths are found by their first segment, and the first that fits serves all its methods. Starlette's router and
    exception handlers would take a tenth of the time of a `/next`.
    """

    def __init__(self, app: ASGIApp, operations: Iterable[Operation]) -> None:
        self._app = app
        by_path: dict[str, dict[str, Operation]] = {}
        for operation in operations:
            by_path.setdefault(operation.path, {})[operation.method] = operation
        self._paths: dict[str, list[tuple[re.Pattern[str], dict[str, Operation]]]] = {}
        for path, methods in by_path.items():
            self._paths.setdefault(path.split("/", 2)[1], []).append((compile_path(path)[0], methods))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve."""
        if scope["type"] == "http":
            path: str = scope["path"]
            for pattern, methods in self._paths.get(path[1:].partition("/")[0], ()):
                if (found := pattern.match(path)) is not None:
                    scope["path_params"] = found.groupdict()
                    request = Request(scope)
                    try:
                        response = await _serve(request, methods)
                    except HANDLED_ERRORS as error:
                        response = await error_response(request, error)
                    await response(scope, receive, send)
                    return
        await self._app(scope, receive, send)


async def _serve(request: Request, methods: Mapping[str, Operation]) -> Response:
    operation = methods.get(request.scope["method"])
    if operation is None:
        raise HTTPException(405, headers={"Allow": ", ".join(sorted(methods))})
    return await operation.serve(request)


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
    """Return the OpenAPI document of a gateway that demands a token (`secured`) or none."""
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
    info = {"title": title, "description": about, "version": version("botify-streams")}
    return {"openapi": "3.1.0", "info": info, "paths": paths, "components": components}
