"""Each call as a request and how its answer is read, for both clients."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import httpx

from botify.client.model import (
    Event,
    Id,
    Item,
    ItemPage,
    NotFoundError,
    ProblemError,
    Recommendations,
    UnavailableError,
    User,
)

T = TypeVar("T")

RETRIED = frozenset({202, 429, 503})
"""202 says that an erasure takes longer: the same call asks for it again, and waits."""
RETRIES = 3
MAX_EVENTS, MAX_LISTENS = 1_000, 50
"""Of a request; listens are those of one listener, so that a retry counts none twice."""


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request, and what reads the body of its answer."""

    method: str
    path: str
    read: Callable[[Any], T]
    parameters: Sequence[tuple[str, str]] = ()
    body: Any = None


def recommendations(
    user: Id, n: int, exclude: Sequence[Id], filters: Sequence[str], session: str | None, *, explain: bool
) -> Call[Recommendations]:
    """Return the call for recommendations."""
    parameters = [("n", str(n)), *(("exclude", _text(item)) for item in exclude), *(("filter", one) for one in filters)]
    if session is not None:
        parameters.append(("session", session))
    if explain:
        parameters.append(("explain", "true"))
    return Call("GET", f"users/{_in_path(str(user))}/recommendations", Recommendations.of, parameters)


def in_requests(events: Sequence[Event]) -> Iterator[Sequence[Event]]:
    """Yield events in the parts that requests may have, in order."""
    begin, listens = 0, Counter[Id]()
    for at, event in enumerate(events):
        is_listen = event.kind in ("listen", "skip")
        if at - begin == MAX_EVENTS or (is_listen and listens[event.user] == MAX_LISTENS):
            yield events[begin:at]
            begin, listens = at, Counter()
        listens[event.user] += is_listen
    if events:
        yield events[begin:]


def send(events: Sequence[Event]) -> Call[list[str]]:
    """Return the call that tells events; they have ids, so that it may be retried."""
    body = {"events": [event.to_json() for event in events]}
    return Call("POST", "events", lambda answer: list(answer["ids"]), body=body)


def page(path: str, limit: int, cursor: str | None, **more: str) -> Call[ItemPage]:
    """Return the call for a page of a list."""
    parameters = [("limit", str(limit)), *more.items()]
    return Call("GET", path, ItemPage.of, parameters if cursor is None else [*parameters, ("cursor", cursor)])


def item(method: str, id_: Id, **fields: Any) -> Call[Item]:
    """Return the call that reads, puts or deletes an item."""
    body = {name: value for name, value in fields.items() if value is not None} or None
    return Call(method, item_path(id_), Item.of, body=body)


def user(id_: Id) -> Call[User]:
    """Return the call that reads a listener."""
    return Call("GET", f"users/{_in_path(str(id_))}", User.of)


def put_user(id_: Id, likes: Sequence[Id], dislikes: Sequence[Id]) -> Call[User]:
    """Return the call that puts what a listener likes and dislikes."""
    return Call("PUT", f"users/{_in_path(str(id_))}", User.of, body={"likes": [*likes], "dislikes": [*dislikes]})


def erase(id_: Id) -> Call[int]:
    """Return the call that erases a listener."""
    return Call("DELETE", f"users/{_in_path(str(id_))}", lambda answer: int(answer["listens"]))


def item_path(id_: Id) -> str:
    """Return the path of an item.

    Examples
    --------
    >>> item_path(7), item_path("7"), item_path("a/b c")
    ('items/7', 'items/%227%22', 'items/a/b%20c')
    """
    return f"items/{_in_path(_text(id_))}"


def _text(id_: Id) -> str:
    """Return a number as digits, and an external id that could be taken for one in quotes."""
    return f'"{id_}"' if isinstance(id_, str) and re.fullmatch(r"[-+]?[0-9]+(\.[0-9]*)?", id_) else str(id_)


def _in_path(text: str) -> str:
    return quote(text, safe="/:")


def read_answer(call: Call[T], answer: httpx.Response) -> T:
    """Return what an answer says; raises `ProblemError`, or `UnavailableError` for one that is to be retried."""
    if answer.is_success and answer.status_code not in RETRIED:
        return call.read(answer.json())
    try:
        body = answer.json()
    except ValueError:
        body = {}
    detail = str(body.get("detail", answer.reason_phrase))
    if answer.status_code in RETRIED:
        raise UnavailableError(f"{answer.status_code}: {detail}")
    errors = [(one["pointer"], one["detail"]) for one in body.get("errors", ())]
    raise (NotFoundError if answer.status_code == 404 else ProblemError)(answer.status_code, detail, errors)


def wait_s(answer: httpx.Response | None, retry: int) -> float:
    """Return how long to wait before the next try: what the service asks for, else 0.1, 0.2, 0.4 s."""
    asked = "" if answer is None else answer.headers.get("retry-after", "")
    return float(asked) if asked.isdecimal() else 0.1 * 2.0**retry
