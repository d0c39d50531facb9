"""Loaded by schemathesis: tracks and listeners become those of the test's catalogue, which no schema can express."""

import itertools
import os
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


def name_of(number: int) -> str:
    return f"id {number % HALF}"


def listener_of(number: int) -> int:
    return number % LISTENERS


def make_possible(body: Any) -> None:
    """Change the events of a body that have valid types; what is wrong stays wrong."""
    if not isinstance(body, dict):
        return
    told = body.get("events", [body])
    for event in told if isinstance(told, list) else []:
        if isinstance(event, dict):
            change(event)
            if isinstance(event.get("items"), list):
                event["items"] = [one if (n := number_of(one)) is None else name_of(n) for one in event["items"]]


def make_opinions_possible(body: Any) -> None:
    """Change the items of a put listener likewise; none is both liked and disliked."""
    for odd, field in enumerate(("likes", "dislikes")):
        named = body.get(field) if isinstance(body, dict) else None
        if isinstance(named, list):
            body[field] = [
                name_of(2 * number + odd) if (number := number_of(value)) is not None else value for value in named
            ]


def number_of(value: Any) -> int | None:
    """Return a number for an item of a valid type; None for any other value."""
    if isinstance(value, str) and 0 < len(value) <= 200:
        return len(value)
    if type(value) in (int, float) and 0 <= value < 2**31 and value == int(value):
        return int(value)
    return None


def change(event: dict[str, Any]) -> None:
    for name, known in (("item", name_of), ("user", listener_of)):
        value = event.get(name)
        if (number := number_of(value)) is not None:
            event[name] = known(number)
        elif name == "user" and type(value) in (int, float) and value == int(value):
            event[name] = known(1)
    if isinstance(event.get("time"), str) and "T" in event["time"]:
        event["time"] = TIME
    kind = event.get("kind")
    if isinstance(kind, str) and KIND.fullmatch(kind) and kind not in KINDS:
        event["kind"] = KINDS[len(kind) % len(KINDS)]
    is_of_listens = event.get("fraction") is not None or event.get("ends_session")
    if is_of_listens and event.get("kind") in ("like", "dislike", "unlike"):
        event["kind"] = "listen"


def before_call(context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, Any]) -> None:
    body = case.body
    if case.path == "/v1/events":
        make_possible(body)
    elif case.path == "/v1/users/{user}":
        make_opinions_possible(body)
    elif case.path == "/v1/groups/recommendations" and isinstance(body, dict) and isinstance(body.get("users"), list):
        body["users"] = [one if (number := number_of(one)) is None else listener_of(number) for one in body["users"]]
    elif isinstance(body, dict) and (number := number_of(body.get("track"))) is not None:
        track: str | int = f"id {number % TRACKS}" if isinstance(body["track"], str) else number % TRACKS
        case.body = {**body, "track": track}
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
