"""Each call as a request and how its answer is read, for both clients."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
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

RETRIED = frozenset({202, 429, 503})  # 202: an erasure takes longer, the same call asks for it again, and waits
RETRIES = 3
MAX_EVENTS, MAX_LISTENS = 1_000, 50  # of a request; listens of one listener, so that a retry counts none twice
MAX_BYTES = 262_144 - 1_024  # of the events in a body; the rest of it is around them


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request, and what reads the body of its answer."""

    method: str
    path: str
    read: Callable[[Any], T]
    parameters: Sequence[tuple[str, str]] = ()
    body: Any = None


def recommendations(
    user: Id,
    n: int = 10,
    *,
    exclude: Sequence[Id] = (),
    filters: Sequence[str] = (),
    caps: Sequence[str] = (),
    exclude_shown: str | None = None,
    session: str | None = None,
    explain: bool = False,
) -> Call[Recommendations]:
    """Return recommendations; a filter is as `genre:rock` or `year>=2010`, a cap `artist:2`.

    `exclude_shown` is a duration such as `1d`, or `session` for the next page.
    """
    parameters = [("n", str(n)), *(("exclude", _text(item)) for item in exclude), *(("filter", one) for one in filters)]
    parameters += [("cap", one) for one in caps]
    if exclude_shown is not None:
        parameters.append(("exclude_shown", exclude_shown))
    if session is not None:
        parameters.append(("session", session))
    if explain:
        parameters.append(("explain", "true"))
    return Call("GET", f"{_user_path(user)}/recommendations", Recommendations.of, parameters)


def rows(user: Id, rows: int = 5, n: int = 10) -> Call[Mapping[str, Sequence[Item]]]:
    """Return rows of items by their titles, in the order in which they are shown."""

    def read(answer: Any) -> Mapping[str, Sequence[Item]]:
        return {row["title"]: [Item.of(item) for item in row["items"]] for row in answer["rows"]}

    return Call("GET", f"{_user_path(user)}/rows", read, [("rows", str(rows)), ("n", str(n))])


def group(
    users: Sequence[Id], n: int = 10, *, exclude: Sequence[Id] = (), filters: Sequence[str] = ()
) -> Call[ItemPage]:
    """Return recommendations for up to 16 listeners together."""
    body = {"users": list(users), "n": n, "exclude": list(exclude), "filter": list(filters)}
    return Call("POST", "groups/recommendations", ItemPage.of, body=body)


def item(item: Id) -> Call[Item]:
    """Return an item."""
    return Call("GET", item_path(item), Item.of)


def put_item(item: Id, *, title: str, artist: str, **fields: Any) -> Call[Item]:
    """Add or replace an item; fields are `album`, `genre`, `genres`, `mood`, `year`, `country` and `vector`."""
    known = {name: value for name, value in fields.items() if value is not None}
    return Call("PUT", item_path(item), Item.of, body={"title": title, "artist": artist, **known})


def delete_item(item: Id) -> Call[Item]:
    """Delete an item: it is never recommended again."""
    return Call("DELETE", item_path(item), Item.of)


def similar(item: Id, limit: int = 20, cursor: str | None = None) -> Call[ItemPage]:
    """Return the items most similar to one."""
    return _page(f"{item_path(item)}/similar", limit, cursor)


def popular(limit: int = 20, cursor: str | None = None, *, half_life: str = "1d") -> Call[ItemPage]:
    """Return the most popular items, by a half-life of `1h`, `1d` or `30d`."""
    return _page("popular", limit, cursor, half_life=half_life)


def rising(limit: int = 20, cursor: str | None = None) -> Call[ItemPage]:
    """Return the popular items by their popularity of the last hour over that of the last day."""
    return _page("rising", limit, cursor)


def latest(limit: int = 20, cursor: str | None = None) -> Call[ItemPage]:
    """Return the items that were added last."""
    return _page("latest", limit, cursor)


def user(user: Id) -> Call[User]:
    """Return what is known of a listener."""
    return Call("GET", _user_path(user), User.of)


def put_user(
    user: Id,
    *,
    likes: Sequence[Id] | None = None,
    dislikes: Sequence[Id] | None = None,
    attributes: Mapping[str, str] | None = None,
) -> Call[User]:
    """Replace what a listener likes and dislikes; what is not named is withdrawn, what was heard stays.

    `attributes`, such as a country, replace all earlier ones; where they alone are given, likes and dislikes stay.
    """
    body: dict[str, Any] = {"attributes": {**attributes}} if attributes is not None else {}
    if attributes is None or likes is not None or dislikes is not None:
        body |= {"likes": [*(likes or ())], "dislikes": [*(dislikes or ())]}
    return Call("PUT", _user_path(user), User.of, body=body)


def erase(user: Id) -> Call[int]:
    """Erase a listener; return how many listens no replay counts any more."""
    return Call("DELETE", _user_path(user), lambda answer: int(answer["listens"]))


def send(events: Sequence[Event]) -> Call[list[str]]:
    """Return the call that tells events; they have ids, so that it may be retried."""
    body = {"events": [event.to_json() for event in events]}
    return Call("POST", "events", lambda answer: list(answer["ids"]), body=body)


def in_requests(events: Sequence[Event]) -> Iterator[Sequence[Event]]:
    """Yield events in the parts that requests may have, in order."""
    begin, size, listens = 0, 0, Counter[Id]()
    for at, event in enumerate(events):
        is_listen = event.kind in ("listen", "skip")
        event_bytes = len(json.dumps(event.to_json())) + 1  # or fewer: httpx writes no spaces, and text as UTF-8
        is_full = at - begin == MAX_EVENTS or (at > begin and size + event_bytes > MAX_BYTES)
        if is_full or (is_listen and listens[event.user] == MAX_LISTENS):
            yield events[begin:at]
            begin, size, listens = at, 0, Counter()
        size += event_bytes
        listens[event.user] += is_listen
    if events:
        yield events[begin:]


def _page(path: str, limit: int, cursor: str | None, **more: str) -> Call[ItemPage]:
    parameters = [("limit", str(limit)), *more.items()]
    return Call("GET", path, ItemPage.of, parameters if cursor is None else [*parameters, ("cursor", cursor)])


def _user_path(user: Id) -> str:
    return f"users/{_in_path(str(user))}"


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
    """Return what an answer says; raises `ProblemError`, or `UnavailableError` for one to retry."""
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
