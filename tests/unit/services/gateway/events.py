"""Events made from a schema become events of known items and listeners in the past, which no schema can express."""

from collections.abc import Callable
from typing import Any

from botify.schemas.validation import KIND

KINDS = ("like", "dislike", "unlike", "listen", "skip", "shown")
TIME = "1970-01-01T00:00:01Z"


def make_possible(body: Any, item: Callable[[int], Any], user: Callable[[int], Any]) -> None:
    """Change the events of a body that have valid types; what is wrong stays wrong."""
    if not isinstance(body, dict):
        return
    told = body.get("events", [body])
    for event in told if isinstance(told, list) else []:
        if isinstance(event, dict):
            _change(event, item, user)
            if isinstance(event.get("items"), list):
                event["items"] = [one if (n := number_of(one)) is None else item(n) for one in event["items"]]


def make_opinions_possible(body: Any, item: Callable[[int], Any]) -> None:
    """Change the items of a put listener likewise; none is both liked and disliked."""
    for odd, field in enumerate(("likes", "dislikes")):
        named = body.get(field) if isinstance(body, dict) else None
        if isinstance(named, list):
            body[field] = [
                item(2 * number + odd) if (number := number_of(value)) is not None else value for value in named
            ]


def number_of(value: Any) -> int | None:
    """Return a number for an item of a valid type; None for any other value."""
    if isinstance(value, str) and 0 < len(value) <= 200:
        return len(value)
    if type(value) in (int, float) and 0 <= value < 2**31 and value == int(value):
        return int(value)
    return None


def _change(event: dict[str, Any], item: Callable[[int], Any], user: Callable[[int], Any]) -> None:
    for name, known in (("item", item), ("user", user)):
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
