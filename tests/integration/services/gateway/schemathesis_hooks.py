"""Loaded by schemathesis: tracks and listeners become those of the test's catalogue, which no schema can express."""

import itertools
import os
from typing import Any

import schemathesis

from tests.integration.services.gateway.conftest import TRACKS
from tests.unit.services.gateway.events import make_opinions_possible, make_possible, number_of

HALF = TRACKS // 2
"""Items below it are heard and liked; calls of a path put and delete the others."""
LISTENERS = 7
ERASURES = 3
"""Each takes a second or more, as an explanation does; later ones are of nobody."""
EXPLANATIONS = 5
erasures, explanations = itertools.count(), itertools.count()


def name_of(number: int) -> str:
    return f"id {number % HALF}"


def before_call(context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, Any]) -> None:
    body = case.body
    if case.path == "/v1/events":
        make_possible(body, name_of, lambda number: number % LISTENERS)
    elif case.path == "/v1/users/{user}":
        make_opinions_possible(body, name_of)
    elif case.path == "/v1/groups/recommendations" and isinstance(body, dict) and isinstance(body.get("users"), list):
        body["users"] = [one if (number := number_of(one)) is None else number % LISTENERS for one in body["users"]]
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
