"""Errors of `/v1` as `application/problem+json` (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, Field
from starlette.responses import JSONResponse

MEDIA_TYPE = "application/problem+json"
PREFIX = "/v1/"


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


def problem(
    status: int, detail: str, headers: Mapping[str, str] | None = None, errors: Sequence[Mapping[str, Any]] = ()
) -> JSONResponse:
    """Return the answer.

    Parameters
    ----------
    errors : sequence of mappings
        Of pydantic: `loc` and `msg`.

    Examples
    --------
    >>> problem(404, "there is no item").body.decode()
    '{"type":"about:blank","title":"Not Found","status":404,"detail":"there is no item"}'
    """
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if errors:
        body["errors"] = [
            {"pointer": "/" + "/".join(map(str, error["loc"])), "detail": error["msg"]} for error in errors
        ]
    return JSONResponse(body, status, dict(headers or {}), MEDIA_TYPE)
