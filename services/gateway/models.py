"""The bodies of Botify's REST API."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field

from schemas.validation import MAX_TRACK, MAX_USER

UserId = Annotated[int, Path(ge=0, le=MAX_USER, description="The listener.", examples=[42])]
TrackId = Annotated[int, Path(ge=0, le=MAX_TRACK, description="The track.", examples=[7])]


class HeardBody(BaseModel):
    """The track that was heard, and how much of it."""

    model_config = ConfigDict(strict=True, frozen=True)

    track: int = Field(ge=0, le=MAX_TRACK, description="A track of the catalogue.", examples=[7])
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
