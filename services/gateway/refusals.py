"""Answers to requests that are not let through."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

RETRY_AFTER_S = 1


async def refuse(
    scope: Scope,
    receive: Receive,
    send: Send,
    status: int,
    detail: str,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Answer with a status and, as FastAPI does, a detail."""
    await JSONResponse({"detail": detail}, status, dict(headers or {}))(scope, receive, send)
