"""Operations: the table from which requests are routed, guarded, validated, refused, and described by OpenAPI.

A request that is not served gets `{"detail": …}`, and below `/v1` a problem of RFC 9457.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, NamedTuple, TypeVar, cast, get_args
from urllib.parse import parse_qsl

from pydantic import BaseModel, Field, ValidationError
from pydantic.json_schema import models_json_schema
from pydantic_core import from_json
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from botify.schemas.external_ids import UserIdError
from botify.services.errors import (
    InvalidRequestError,
    UnavailableError,
    UnknownItemError,
    UnknownTrackError,
    WrongEventError,
)
from botify.services.gateway import RETRY_AFTER_S, TokenScope

REQUEST_ID = "botify.request_id"  # where a scope has its `RequestId`
CLIENT = "botify.client"  # where a scope has the name of its token, if it has one
BODY = "botify.body"  # where a scope has its whole body, bytes
V1 = "/v1/"
KEY_PATTERN = "[!-~]{1,128}"  # of a client's id or key: printable ASCII without spaces
JSON, PROBLEM_JSON = "application/json", "application/problem+json"
_REF = "#/components/schemas/{model}"

Call = TypeVar("Call", bound=BaseModel)


def read_call(request: Request, call: type[Call]) -> Call:
    """Validate the path, query and body of a request, which are the fields of `call`; raises `HANDLED_ERRORS`.

    A model that forbids unknown fields refuses unknown parameters, too.
    """
    strict = call.model_config.get("extra") == "forbid"
    parts: dict[str, Any] = {}
    if "path" in call.model_fields:
        parts["path"] = request.path_params
    if "query" in call.model_fields:
        found: dict[str, list[str]] = {}
        # as Starlette's `query_params` does, which costs as much as all of the validation
        for name, value in parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True):
            found.setdefault(name, []).append(value)
        parts["query"] = {name: values if len(values) > 1 else values[0] for name, values in found.items()}
    elif strict and request.scope["query_string"] and request.query_params:
        raise InvalidRequestError([{"loc": ("query", name), "msg": "not known"} for name in request.query_params])
    if "body" in call.model_fields and (strict or request.scope[BODY]):
        body = request.scope[BODY]
        # bytes, which no model takes, if it is said to be something else
        parts["body"] = _parse_json(body) if body and _is_json(dict(request.scope["headers"])) else body
    try:
        return call.model_validate(parts, from_attributes=not strict)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_context=False, include_input=False)
        raise InvalidRequestError(errors) from error


def _is_json(headers: Mapping[bytes, bytes]) -> bool:
    media_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    return media_type.startswith(b"application/") and media_type.endswith((b"/json", b"+json"))


def _parse_json(body: bytes) -> Any:
    try:
        return from_json(body)
    except ValueError as error:  # also for lone surrogates, which no topic and no key can hold
        wrong: dict[str, Any] = {"type": "json_invalid", "loc": ("body",), "msg": str(error)}
    try:
        json.loads(body.decode())
    except json.JSONDecodeError as error:  # it names the position
        wrong = {"type": "json_invalid", "loc": ("body", error.pos), "msg": "JSON decode error"}
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, "the body is not text in UTF-8, or is nested too deeply") from error
    raise InvalidRequestError([wrong])


class NameConvertor(PathConvertor):
    """What a user or an item is called in a path: any text, also with slashes, as `path`, and with line breaks."""

    regex = r"[\s\S]*"


register_url_convertor("name", NameConvertor())


class DetailBody(BaseModel):
    """What is wrong."""

    detail: str


class FieldError(BaseModel):
    """A field that is wrong: its path, and why."""

    type: str
    loc: list[str | int]
    msg: str


class FieldErrorsBody(BaseModel):
    """The fields that are wrong."""

    detail: list[FieldError]


class WrongField(BaseModel):
    """A field that is wrong."""

    pointer: str = Field(description="Where it is, as a JSON pointer below `path`, `query` or `body`.")
    detail: str


class Problem(BaseModel):
    """Why a request was not served."""

    type: str = Field(description="What kind of problem; `about:blank` where the status says all.")
    title: str
    status: int
    detail: str
    errors: list[WrongField] = Field(default=[], description="The fields that are wrong.")


HANDLED_ERRORS = (
    HTTPException,
    UnavailableError,
    UnknownTrackError,
    InvalidRequestError,
    UnknownItemError,
    WrongEventError,
    UserIdError,
)


async def error_response(request: Request, error: Exception) -> Response:
    """Return the answer to one of the `HANDLED_ERRORS`."""
    path = request.url.path
    match error:
        case HTTPException():
            return refusal(path, error.status_code, error.detail, error.headers)
        case UnavailableError():
            return refusal(path, 503, str(error), {"Retry-After": str(RETRY_AFTER_S)})
        case WrongEventError():
            where, why = error.args
            return refusal(path, 422, "an event cannot be accepted", errors=[{"loc": where, "msg": why}])
        case InvalidRequestError():
            detail = "the request does not have the form that is asked for"
            return refusal(path, 422, detail, errors=error.args[0])
        case UserIdError():
            return refusal(path, 422, str(error), errors=[{"loc": ("path", "user"), "msg": str(error)}])
        case UnknownTrackError() if not path.startswith(V1):
            wrong = {"type": "unknown_track", "loc": ("body", "track"), "msg": str(error)}
            return refusal(path, 422, str(error), errors=[wrong])
    return refusal(path, 404, str(error))


def refusal(
    path: str,
    status: int,
    detail: str,
    headers: Mapping[str, str] | None = None,
    errors: Sequence[Mapping[str, Any]] = (),
) -> JSONResponse:
    """Return the answer to a request that is not served; `errors` are pydantic's, with `loc` and `msg`."""
    if not path.startswith(V1):
        return JSONResponse({"detail": errors or detail}, status, headers)
    body: dict[str, Any] = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    body["detail"] = detail
    if errors:
        body["errors"] = [{"pointer": "/" + "/".join(map(str, one["loc"])), "detail": one["msg"]} for one in errors]
    return JSONResponse(body, status, dict(headers or {}), PROBLEM_JSON)


class Reply(NamedTuple):
    """An answer of a route: what it means, its body's model or media type, and its headers."""

    description: str
    content: type[BaseModel] | str | None = DetailBody
    headers: Mapping[str, Mapping[str, Any]] = {}

    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = {"description": self.description}
        if self.content is not None:
            document["content"] = _content(self.content)
        if self.headers:
            document["headers"] = dict(self.headers)
        return document


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


def refusals(*statuses: int, content: type[BaseModel] = DetailBody) -> dict[int, Reply]:
    """Return the replies of these statuses to a request that is not served."""
    return {
        status: Reply(_REFUSALS[status], content, _RETRY_AFTER if status in (429, 503) else {}) for status in statuses
    }


Guard = tuple[str, re.Pattern[str], TokenScope | None]
"""A method, the paths of a route, and what a token must allow; None needs no token."""


class Operation(NamedTuple):
    """A method on a path, and what the OpenAPI document says of it in addition to its docstring."""

    method: str
    path: str
    serve: Callable[[Request, Any], Awaitable[Response]]  # the second argument is the call
    replies: Mapping[int, Reply]  # by status
    scope: TokenScope | None
    call: type[BaseModel] | None = None  # the model of its path, query and body
    tag: str = "Botify"

    def guard(self) -> Guard:
        return self.method, compile_path(self.path)[0], self.scope

    def part(self, name: str) -> type[BaseModel] | None:
        """Return the model of the path, the query or the body."""
        field = None if self.call is None else self.call.model_fields.get(name)
        return None if field is None else cast(type[BaseModel], field.annotation)

    def document(self, *, secured: bool) -> dict[str, Any]:
        name = self.serve.__name__
        document: dict[str, Any] = {
            "tags": [self.tag],
            "summary": name.replace("_", " ").title(),
            "description": self.serve.__doc__,
            "operationId": re.sub(r"\W", "_", f"{name}{self.path.replace(':name', '')}_{self.method.lower()}"),
            "responses": {str(status): reply.document() for status, reply in self.replies.items()},
        }
        parameters: list[dict[str, Any]] = []
        for place, required in (("path", {"required": True}), ("query", {})):
            if (model := self.part(place)) is not None:
                # without references: a parameter has no definitions of its own
                found = model.model_json_schema()["properties"].items()
                parameters += [{"name": field, "in": place, **required, "schema": schema} for field, schema in found]
        if (body := self.part("body")) is not None:
            parameters.append(_IDEMPOTENCY_KEY)
            document["requestBody"] = {"content": _content(body), "required": True}
        if parameters:
            document["parameters"] = parameters
        if secured and self.scope is not None:
            document["security"] = [{"HTTPBearer": [self.scope]}]
        return document


_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same in each retry of this call, and in no other: however often it comes, it counts once.",
    "schema": {"type": "string", "pattern": f"^{KEY_PATTERN}$"},
}


class Operations:
    """Middleware that serves operations, the first whose path fits; other paths go to the application.

    Starlette's router and exception handlers would take a tenth of the time of a `/next`.
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
    return await operation.serve(request, None if operation.call is None else read_call(request, operation.call))


def _content(content: Any) -> dict[str, Any]:
    if isinstance(content, str):
        return {content: {}}
    schemas = [{"$ref": _REF.format(model=model.__name__)} for model in _models_of(content)]
    schema = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
    return {PROBLEM_JSON if content is Problem else JSON: {"schema": schema}}


def _models_of(content: Any) -> list[type[BaseModel]]:
    """Return a model, or those of a union."""
    return list(get_args(content)) or ([content] if isinstance(content, type) else [])


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
        of_path = paths.setdefault(operation.path.replace(":name", ""), {})
        of_path[operation.method.lower()] = operation.document(secured=secured)
        contents = [operation.part("body"), *(reply.content for reply in operation.replies.values())]
        models.update({model.__name__: model for content in contents for model in _models_of(content)})
    _, schemas = models_json_schema([(model, "validation") for model in models.values()], ref_template=_REF)
    components = {"schemas": schemas["$defs"]}
    if secured:
        components["securitySchemes"] = {"HTTPBearer": {"type": "http", "scheme": "bearer"}}
    info = {"title": title, "description": about, "version": version("botify-streams")}
    return {"openapi": "3.1.0", "info": info, "paths": paths, "components": components}
