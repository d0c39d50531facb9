"""The bodies of Botify's REST API."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Header, Path
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from schemas.validation import MAX_TRACK, MAX_USER

UserId = Annotated[int, Path(ge=0, le=MAX_USER, description="The listener.", examples=[42])]
TrackId = Annotated[int, Path(ge=0, le=MAX_TRACK, description="The track.", examples=[7])]

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[!-~]{1,128}$",
        description="The same in each retry of this call, and in no other: however often it comes, it counts once.",
    ),
]


def whole(value: Any) -> Any:
    """Return 7 for 7.0: JSON has one kind of number.

    Examples
    --------
    >>> whole(7.0), whole(7.5), whole("7")
    (7, 7.5, '7')
    """
    return int(value) if isinstance(value, float) and value.is_integer() else value


class HeardBody(BaseModel):
    """The track that was heard, and how much of it."""

    model_config = ConfigDict(strict=True, frozen=True)

    track: Annotated[int, BeforeValidator(whole)] = Field(
        ge=0, le=MAX_TRACK, description="A track of the catalogue.", examples=[7]
    )
    time: float = Field(ge=0, le=1, allow_inf_nan=False, description="Share of it that was heard.", examples=[0.8])


class NextBody(BaseModel):
    """What the listener hears next."""

    user: int
    track: int


class LastBody(BaseModel):
    """The session is over."""

    user: int


class TrackBody(BaseModel):
    """A track of the catalogue."""

    track: int
    artist: str
    title: str
    album: str | None
    genre: str | None


class HelloBody(BaseModel):
    """Botify's greeting."""

    status: Literal["alive"] = "alive"
    message: str = "welcome to botify, the best toy music recommender"


class ReadyBody(BaseModel):
    """Whether listeners can be served, and if not, why."""

    ready: bool
    problems: list[str]


class DetailBody(BaseModel):
    """What is wrong."""

    detail: str


TOKEN_WANTED: dict[int | str, dict[str, Any]] = {401: {"model": DetailBody, "description": "A token is wanted."}}
"""What OpenAPI says of routes that want the token."""
