"""Loaded by schemathesis: tracks and listeners become those of the test's catalogue, which no schema can express."""

import itertools
import os
from collections.abc import Callable
from typing import Any

import schemathesis

from botify.schemas.validation import KIND
from tests.integration.services.gateway.conftest import TRACKS

HALF = TRACKS // 2
"""Items below it are heard and liked; calls of a path put and delete the others."""
LISTENERS = 7
ERASURES = 3
"""Each takes a second or more, as an explanation does; later ones are of nobody."""
EXPLANATIONS = 5
erasures, explanations = itertools.count(), itertools.count()
KINDS = ("like", "dislike", "unlike", "listen", "skip", "shown")
TIME = "1970-01-01T00:00:01Z"  # in the past


def number_of(value: Any) -> int | None:
    """Return a number for an item of a valid type; None for any other value."""
    if isinstance(value, str) and 0 < len(value) <= 200:
        return len(value)
    if type(value) in (int, float) and 0 <= value < 2**31 and value == int(value):
        return int(value)
    return None


def possible(value: Any, known: Callable[[int], int | str]) -> Any:
    """Return what is known in place of a valid value; what is wrong stays wrong."""
    return value if (number := number_of(value)) is None else known(number)


def name_of(number: int) -> str:
    return f"id {number % HALF}"


def listener_of(number: int) -> int:
    return number % LISTENERS


def change_event(event: dict[str, Any]) -> None:
    """Change what an event has of valid types."""
    if type(user := event.get("user")) in (int, float) and number_of(user) is None and user == int(user):
        event["user"] = listener_of(1)
    for name, known in (("item", name_of), ("user", listener_of)):
        if name in event:
            event[name] = possible(event[name], known)
    if isinstance(event.get("items"), list):
        event["items"] = [possible(one, name_of) for one in event["items"]]
    if isinstance(event.get("time"), str) and "T" in event["time"]:
        event["time"] = TIME
    kind = event.get("kind")
    if isinstance(kind, str) and KIND.fullmatch(kind) and kind not in KINDS:
        kind = event["kind"] = KINDS[len(kind) % len(KINDS)]
    if kind in ("like", "dislike", "unlike") and (event.get("fraction") is not None or event.get("ends_session")):
        event["kind"] = "listen"


def change_body(path: str, body: dict[str, Any]) -> None:
    if path == "/v1/events":
        told = body.get("events", [body])
        for event in told if isinstance(told, list) else []:
            if isinstance(event, dict):
                change_event(event)
    elif path == "/v1/users/{user}":
        for odd, field in enumerate(("likes", "dislikes")):  # none is both liked and disliked
            if isinstance(named := body.get(field), list):
                body[field] = [possible(one, lambda number, odd=odd: name_of(2 * number + odd)) for one in named]
    elif path == "/v1/groups/recommendations" and isinstance(body.get("users"), list):
        body["users"] = [possible(one, listener_of) for one in body["users"]]
    elif "track" in body:
        is_name = isinstance(body["track"], str)
        body["track"] = possible(body["track"], lambda number: f"id {number % TRACKS}" if is_name else number % TRACKS)


def before_call(context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, Any]) -> None:
    if isinstance(case.body, dict):
        case.body = {**case.body}
        change_body(case.path, case.body)
    if case.path.startswith("/v1/"):
        path = case.path_parameters or {}
        if 0 < len(str(path.get("user", ""))) <= 200:
            known = case.method != "DELETE" or next(erasures) < ERASURES
            if case.path.endswith("/why"):
                known = next(explanations) < EXPLANATIONS
            path["user"] = str(len(path["user"]) % LISTENERS) if known else "nobody"
        if 0 < len(str(path.get("item", ""))) <= 200:
            path["item"] = f"id {HALF + len(str(path['item'])) % HALF}"


if "SCHEMATHESIS_HOOKS" in os.environ:  # not in a pytest that imports this for its doctests, with contracts of its own
    schemathesis.hook(before_call)
