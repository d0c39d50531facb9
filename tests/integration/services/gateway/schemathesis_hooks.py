"""Loaded by schemathesis: its tracks become tracks of the test's catalogue, which no schema can express."""

from typing import Any

import schemathesis

from tests.integration.services.gateway.conftest import TRACKS

MAX_TRACK = 2**31 - 1


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, Any]) -> None:
    body = case.body
    track = body.get("track") if isinstance(body, dict) else None
    if isinstance(track, str) and track:
        case.body = {**body, "track": f"id {len(track) % TRACKS}"}
    elif type(track) in (int, float) and 0 <= track <= MAX_TRACK:
        case.body = {**body, "track": track % TRACKS}
