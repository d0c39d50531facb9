"""What Gorse's clients send and get, and what it is here."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.alias_generators import to_pascal
from starlette.exceptions import HTTPException

from schemas.events import Track
from services.gateway.api import InvalidRequestError
from services.gateway.v1.models import MAX_EVENTS, Item, ItemBody, Name
from services.gateway.v1.recommending import name_of

NEVER = "0001-01-01T00:00:00Z"  # how Gorse writes a time that is not known
KEPT_LABELS = ("title", "artist", "album", "mood", "year", "country")
T = TypeVar("T")


class Record(BaseModel):
    """Fields with capitals; others are refused."""

    model_config = ConfigDict(alias_generator=to_pascal, extra="forbid", frozen=True)


class GorseFeedback(Record):
    """What a user did; `Value` is the share that was heard of a listen, where it is above 0."""

    feedback_type: Name
    user_id: str = ""  # absent in a session's feedback
    item_id: Name
    timestamp: str = ""
    value: float = Field(default=0, ge=0, allow_inf_nan=False)
    comment: str = ""


class GorseItem(Record):
    """An item, or what is to change of one; None stays as it is."""

    item_id: Name | None = None
    is_hidden: bool | None = None
    categories: list[Name] | None = None
    timestamp: str | None = None
    labels: Any = None
    comment: str | None = None


class GorseUser(Record):
    """A user; nothing of it is kept."""

    user_id: str = ""
    labels: Any = None
    comment: str | None = None
    subscribe: list[str] | None = None


FEEDBACK = TypeAdapter(Annotated[list[GorseFeedback], Field(max_length=MAX_EVENTS)])
ITEMS = TypeAdapter(Annotated[list[GorseItem], Field(max_length=MAX_EVENTS)])
USERS = TypeAdapter(Annotated[list[GorseUser], Field(max_length=MAX_EVENTS)])


def read(validate: Callable[[Any], T], value: Any) -> T:
    """Return a validated value; raises `InvalidRequestError`."""
    try:
        return validate(value)
    except ValidationError as error:
        raise InvalidRequestError(
            error.errors(include_url=False, include_context=False, include_input=False)
        ) from error


def time_of(text: str) -> datetime | None:
    """Return a time, in UTC where it has no zone; None if it is not known.

    Examples
    --------
    >>> str(time_of("2022-02-24")), time_of(""), time_of(NEVER)
    ('2022-02-24 00:00:00+00:00', None, None)
    """
    try:
        time = datetime.fromisoformat(text) if text and text != NEVER else None
    except ValueError as error:
        raise HTTPException(400, f"Timestamp: {text!r} is not of the form 2026-01-31T12:00:00Z") from error
    return time.replace(tzinfo=UTC) if time is not None and time.tzinfo is None else time


def categories_of(track: Track) -> list[str]:
    """Return the genres of a track, which are its categories, the first one first."""
    return list(dict.fromkeys(one for one in (track.genre, *(track.genres or ())) if one is not None))


def is_of(item: Item, category: str) -> bool:
    """Return whether an item is of a category, the empty one included; case does not matter."""
    genres = [one.casefold() for one in (item.genre, *(item.genres or ())) if one is not None]
    return not category or category.casefold() in genres


def item_of(track: Track) -> dict[str, Any]:
    """Return an item as Gorse writes it."""
    labels = {name: value for name in KEPT_LABELS if (value := getattr(track, name)) is not None}
    return {
        "ItemId": str(name_of(track)),
        "IsHidden": False,
        "Categories": categories_of(track),
        "Timestamp": NEVER,
        "Labels": labels,
        "Comment": track.title,
    }


def body_of(item: GorseItem, name: str, track: Track | None = None) -> ItemBody:
    """Return an item as it is put; what it does not say stays as it is in the catalogue."""
    labels = item.labels if isinstance(item.labels, dict) else {}
    fields: dict[str, Any] = {"title": name, "artist": name}  # one artist for all would have two of ten places
    if track is not None:
        fields |= {label: getattr(track, label) for label in KEPT_LABELS}
    if item.comment:
        fields["title"] = item.comment
    fields |= {label: value for label, value in labels.items() if label in KEPT_LABELS}
    fields["genres"] = item.categories if item.categories is not None else categories_of(track) if track else []
    return read(ItemBody.model_validate, fields)


def dropped_of(item: GorseItem) -> list[str]:
    """Return what is not kept of an item."""
    if isinstance(item.labels, dict):
        labels = [f"Labels.{name}" for name in item.labels if name not in KEPT_LABELS]
    else:
        labels = ["Labels"] if item.labels else []
    return [*labels, "Timestamp"] if item.timestamp else labels


def given_of(user: GorseUser) -> list[str]:
    """Return the fields of a user that are not kept."""
    return [to_pascal(name) for name in ("labels", "comment", "subscribe") if getattr(user, name)]
