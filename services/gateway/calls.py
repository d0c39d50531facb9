"""How requests are read and refused: `{"detail": …}`, and below `/v1` the problems of RFC 9457."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel, Field, ValidationError
from pydantic_core import from_json
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from botify.services.gateway.messages import (
    InvalidRequestError,
    UnavailableError,
    UnknownItemError,
    UnknownTrackError,
    WrongEventError,
)
from botify.services.gateway.options import RETRY_AFTER_S

REQUEST_ID = "botify.request_id"  # where a scope has its `RequestId`
CLIENT = "botify.client"  # where a scope has the name of its token, if it has one
BODY = "botify.body"  # where a scope has its whole body, bytes
V1 = "/v1/"
PROBLEM_JSON = "application/problem+json"

Call = TypeVar("Call", bound=BaseModel)


def read_call(request: Request, call: type[Call]) -> Call:
    """Validate the path, query and body of a request, which are the fields of `call`.

    A model that forbids unknown fields refuses unknown parameters, too. Raises `InvalidRequestError`, or
    `HTTPException` for a body that is no text.
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
        parts["body"] = _parsed_body(request)
    try:
        return call.model_validate(parts, from_attributes=not strict)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_context=False, include_input=False)
        raise InvalidRequestError(errors) from error


def _parsed_body(request: Request) -> Any:
    """Return the body's JSON, or its bytes if it is said to be something else."""
    body = request.scope[BODY]
    return _parse_json(body) if body and _is_json(dict(request.scope["headers"])) else body


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
    """Return the answer to a request that is not served; `errors` are pydantic's, with `loc` and `msg`.

    Examples
    --------
    >>> refusal("/next/42", 404, "Not Found").body.decode()
    '{"detail":"Not Found"}'
    >>> refusal("/v1/items/7", 404, "there is no item").body.decode()
    '{"type":"about:blank","title":"Not Found","status":404,"detail":"there is no item"}'
    """
    if not path.startswith(V1):
        return JSONResponse({"detail": errors or detail}, status, headers)
    body: dict[str, Any] = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    body["detail"] = detail
    if errors:
        body["errors"] = [{"pointer": "/" + "/".join(map(str, one["loc"])), "detail": one["msg"]} for one in errors]
    return JSONResponse(body, status, dict(headers or {}), PROBLEM_JSON)
