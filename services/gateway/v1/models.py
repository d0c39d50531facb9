"""What requests to `/v1` may say, and what its answers say. Unknown fields and parameters are refused."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, WrapValidator

from botify.schemas.sketches import MOST_COMPONENTS, sketch_of
from botify.schemas.validation import (
    ATTRIBUTE,
    KIND,
    MAX_ATTRIBUTE,
    MAX_ATTRIBUTES,
    MAX_NAME,
    MAX_SLATE,
    MAX_USER,
    check_id,
)
from botify.services.gateway.api import TrackInBody, TrackInPath, UserPath
from botify.services.recommender.filters import FIELDS, PATTERN

MAX_EVENTS = 1_000
MAX_PAGE = 200
MAX_EXCLUDED = 1_000
MAX_OPINIONS = 1_000
MAX_GROUP = 16
DURATION = "[1-9][0-9]{0,4}[mhd]"
LISTENED_KINDS = ("listen", "skip")


P = TypeVar("P", bound=BaseModel)
Q = TypeVar("Q", bound=BaseModel)
B = TypeVar("B")


class Strict(BaseModel):
    """Refuses unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _many(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def _whole(value: Any) -> Any:
    """Return 7 for 7.0, because JSON has one kind of number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _text(value: Any) -> Any:
    if not isinstance(value, datetime | str) or (isinstance(value, str) and "T" not in value.upper()):
        raise ValueError("a time has the form 2026-01-31T12:00:00Z")
    return value


def _named(value: int | str) -> int | str:
    if value == "":
        raise ValueError("the name of an item must not be empty")
    return value


def _flag(value: Any) -> Any:
    return value == "true" if value in ("true", "false") else value


def _vector(value: list[float]) -> list[float]:
    sketch_of(value)  # which says why there is none
    return value


Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME)]
AttributeName = Annotated[str, Field(pattern=f"^{ATTRIBUTE.pattern}$")]
AttributeValue = Annotated[str, Field(min_length=1, max_length=MAX_ATTRIBUTE)]


def _no_other_names(schema: dict[str, Any]) -> None:
    """Say of a dictionary's schema that no other names than those of the pattern are taken, as pydantic does not."""
    ((pattern, value),) = schema.pop("patternProperties").items()
    schema.update(propertyNames={"pattern": pattern}, additionalProperties=value)


Attributes = Annotated[
    dict[AttributeName, AttributeValue], Field(max_length=MAX_ATTRIBUTES, json_schema_extra=_no_other_names)
]
Session = Annotated[str, Field(min_length=1), AfterValidator(check_id)]
UserNumber = Annotated[int, Field(strict=True, ge=0, le=MAX_USER), BeforeValidator(_whole)]
Year = Annotated[int, Field(strict=True, ge=0, le=9_999), BeforeValidator(_whole)]
UserInBody = UserNumber | Name
Time = Annotated[AwareDatetime, BeforeValidator(_text)]
Texts = Annotated[tuple[str, ...], Field(max_length=MAX_EXCLUDED), BeforeValidator(_many)]
Filter = Annotated[str, Field(max_length=200, pattern=PATTERN)]
Cap = Annotated[str, Field(pattern=rf"^({'|'.join(FIELDS)}):[1-9][0-9]{{0,2}}$")]


class ItemPath(Strict):
    """Parameters of a path."""

    item: TrackInPath = Field(description="The item's number, or its external id, in quotes if that is digits.")


class RecommendationsQuery(Strict):
    """What to recommend."""

    n: int = Field(default=10, ge=1, le=MAX_SLATE, description="How many items.")
    exclude: Texts = Field(default=(), description="Items that are not wanted: repeated, or separated by commas.")
    filter: Annotated[tuple[Filter, ...], Field(max_length=20), BeforeValidator(_many)] = Field(
        default=(),  # a list would be copied for each request
        description="`field:value`, `field!:value`, `year>=2010`. Values of a field are alternatives, all else holds.",
        examples=[["genre:rock"]],
    )
    cap: Annotated[tuple[Cap, ...], Field(max_length=20), BeforeValidator(_many)] = Field(
        default=(), description="`field:n`: at most n items with the same value, while others are left."
    )
    exclude_shown: str | None = Field(
        default=None,
        pattern=rf"^({DURATION}|session)$",
        description="Leaves out what was shown for so long: `1d`, `90m`; or what answers with `session` gave in it.",
    )
    session: Session | None = Field(default=None, description="The listener's session, if it has a name of yours.")
    explain: Annotated[bool, Field(strict=True), BeforeValidator(_flag)] = Field(
        default=False, description="Whether to give a reason for each item."
    )


class RowsQuery(Strict):
    """How many rows, and how many items each."""

    rows: int = Field(default=5, ge=1, le=10)
    n: int = Field(default=10, ge=1, le=50, description="Items of a row.")


class WhyQuery(Strict):
    """Which answer to explain: by default the newest one."""

    request: Session | None = Field(default=None, description="The answer to the request of this id.")
    at: Time | None = Field(default=None, description="The newest before this time.")
    item: Name | None = Field(default=None, description="Say also why not this item.")


class GroupBody(Strict):
    """Who listens together, and what to recommend."""

    users: list[UserInBody] = Field(min_length=1, max_length=MAX_GROUP, examples=[["alice", "bob"]])
    n: Annotated[int, Field(strict=True, ge=1, le=MAX_SLATE), BeforeValidator(_whole)] = Field(
        default=10, description="How many items."
    )
    exclude: list[Annotated[TrackInBody, AfterValidator(_named)]] = Field(
        default=[], max_length=MAX_EXCLUDED, description="Items that are not wanted."
    )
    filter: list[Filter] = Field(default=[], max_length=20, description="As for one listener.")


class PageQuery(Strict):
    """A page of a list."""

    limit: int = Field(default=20, ge=1, le=MAX_PAGE, description="Items of a page.")
    cursor: str | None = Field(default=None, pattern="^o[0-9]{1,8}$", description="`next` of the page before.")

    @property
    def offset(self) -> int:
        """The place in the list of the first item of the page."""
        return 0 if self.cursor is None else int(self.cursor[1:])


class PopularQuery(PageQuery):
    """A page of the popular items."""

    half_life: Literal["1h", "1d", "30d"] = Field(default="1d", description="How fast popularity decays.")


class Fact(Strict):
    """What is said of a listener at a time."""

    user: UserInBody = Field(description="The listener.", examples=["alice"])
    time: Time | None = Field(default=None, description="When it happened; now by default.")
    id: Name | None = Field(default=None, description="Names the event, so that it may be sent again and counts once.")

    @property
    def time_ms(self) -> int | None:
        """The time in milliseconds since the epoch."""
        return None if self.time is None else round(datetime.timestamp(self.time) * 1000)


class ShownEvent(Fact):
    """Items were on a listener's screen."""

    kind: Literal["shown"]
    items: list[TrackInBody] = Field(min_length=1, max_length=MAX_SLATE, description="By number or external id.")


class Event(Fact):
    """What a listener did."""

    kind: str = Field(
        pattern=f"^{KIND.pattern}$",
        description="`listen`, `skip`, `like`, `dislike`, `unlike`, which withdraws either, or one that is declared.",
        examples=["like"],
        json_schema_extra={"not": {"const": "shown"}},
    )
    item: TrackInBody = Field(description="The item, by number or external id.")
    fraction: float | None = Field(
        default=None,
        strict=True,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Share that was heard: 1 by default, 0 of a skip.",
    )
    session: Session | None = Field(default=None, description="Its session; by default the listener's current one.")
    ends_session: bool = Field(default=False, strict=True, description="Whether the listener left after it.")

    @property
    def is_listen(self) -> bool:
        """Whether something was heard, if only its beginning."""
        return self.kind in LISTENED_KINDS

    @property
    def share(self) -> float:
        return self.fraction if self.fraction is not None else float(self.kind == "listen")


def _event(value: Any, _: Any) -> Event | ShownEvent:
    """Validate the event that is meant: errors of a union name both."""
    is_shown = isinstance(value, dict) and value.get("kind") == "shown"
    return (ShownEvent if is_shown else Event).model_validate(value)


AnyEvent = Annotated[Event | ShownEvent, WrapValidator(_event)]


class Events(Strict):
    """Several events, in their order."""

    events: list[AnyEvent] = Field(min_length=1, max_length=MAX_EVENTS)


def _events(value: Any, handler: Any) -> Event | ShownEvent | Events:
    """Validate what is meant, one event or several."""
    return Events.model_validate(value) if isinstance(value, dict) and "events" in value else _event(value, handler)


class ItemBody(Strict):
    """An item as it is put."""

    title: Name
    artist: Name
    album: Name | None = None
    genre: Name | None = None
    genres: list[Name] = Field(default=[], max_length=20, description="All genres, where there are several.")
    mood: Name | None = None
    year: Year | None = None
    country: Name | None = None
    vector: Annotated[list[float], AfterValidator(_vector)] | None = Field(
        default=None,
        min_length=1,
        max_length=MOST_COMPONENTS,
        json_schema_extra={"contains": {"not": {"const": 0}}},
        description="What it is like, such as an embedding; all items' vectors have one length. Kept as 128 bits.",
    )


class UserBody(Strict):
    """What a listener likes and dislikes, as it is put: what is not named is withdrawn.

    Attributes that are put take the place of all earlier ones; a body of attributes alone leaves opinions as they are.
    """

    likes: list[TrackInBody] = Field(default=[], max_length=MAX_OPINIONS, description="Items, the newest last.")
    dislikes: list[TrackInBody] = Field(default=[], max_length=MAX_OPINIONS, description="None of the likes.")
    attributes: Attributes | None = Field(
        default=None, description="Such as country and platform; they stay as they are if null."
    )


class PathCall(Strict, Generic[P]):
    """A request with parameters in its path."""

    path: P


class QueryCall(Strict, Generic[Q]):
    """A request with a query."""

    query: Q


class PathQueryCall(PathCall[P], QueryCall[Q], Generic[P, Q]):
    """A request with both."""


class BodyCall(Strict, Generic[B]):
    """A request with a body."""

    body: B


class PutCall(PathCall[P], BodyCall[B], Generic[P, B]):
    """A request with parameters in its path, and a body."""


EventsCall = BodyCall[Annotated[Event | ShownEvent | Events, WrapValidator(_events)]]
GroupCall = BodyCall[GroupBody]
UserCall = PathCall[UserPath]
ItemCall = PathCall[ItemPath]
PutUserCall = PutCall[UserPath, UserBody]
PutItemCall = PutCall[ItemPath, ItemBody]
PageCall = QueryCall[PageQuery]
PopularCall = QueryCall[PopularQuery]
SimilarCall = PathQueryCall[ItemPath, PageQuery]
WhyCall = PathQueryCall[UserPath, WhyQuery]
RowsCall = PathQueryCall[UserPath, RowsQuery]
RecommendationsCall = PathQueryCall[UserPath, RecommendationsQuery]


class Item(BaseModel):
    """An item of the catalogue; what is not known is absent."""

    item: int | str = Field(description="Its external id, or its number where it has none.")
    number: int
    title: str
    artist: str
    album: str | None = None
    genre: str | None = None
    genres: list[str] | None = None
    mood: str | None = None
    year: int | None = None
    country: str | None = None


class Reason(BaseModel):
    """Why an item was recommended."""

    policy: str = Field(description="The recommender that offered it.")
    score: float = Field(description="On that recommender's own scale.")
    because: Item | None = Field(default=None, description="What the listener heard or liked, and that led to it.")
    features: dict[str, bool] = Field(default={}, description="What both have in common.")
    text: str
    model_versions: dict[str, int] = Field(default={}, description="Listens that each model had learned from.")


class Recommended(Item):
    """An item that is recommended."""

    propensity: float = Field(description="Probability of it, given the items before it.")
    reason: Reason | None = None


class Recommendations(BaseModel):
    """What is recommended, best first."""

    id: str = Field(description="Names this answer; it is on the topics.")
    user: int | str
    items: list[Recommended]
    policy: str
    propensity: float = Field(description="Probability of all items together.")
    experiments: dict[str, str] = Field(description="The listener's treatments.")
    fallback: bool = Field(description="Whether the recommender was too late, and these are popular items.")


class Accepted(BaseModel):
    """The events are in their topics."""

    ids: list[str] = Field(description="Of each event, in the order in which they came.")


class Scored(Item):
    """An item of a list."""

    score: float = Field(description="What the list is ordered by; of popular items, their decayed listens.")


class ItemPage(BaseModel):
    """A page of a list."""

    items: list[Scored]
    next: str | None = Field(default=None, description="Cursor of the next page; absent on the last one.")


class GroupRecommendations(BaseModel):
    """What is recommended to several listeners, best first."""

    id: str = Field(description="Names this answer.")
    users: list[int | str]
    items: list[Scored] = Field(description="The score is the average over the listeners, of 1 for the first place.")
    fallback: bool = Field(description="Whether the recommender was too late for one of them.")


class Row(BaseModel):
    """Items that have something in common."""

    title: str
    because: Item | None = Field(default=None, description="What the listener heard or liked.")
    items: list[Item]


class Rows(BaseModel):
    """Rows of a page; no item is in two."""

    user: int | str
    rows: list[Row]


class Heard(BaseModel):
    """An item that a listener heard."""

    item: int | str
    fraction: float
    time: datetime


class User(BaseModel):
    """What is known of a listener."""

    user: int | str
    listens: int
    sessions: int
    last_listens: list[Heard] = Field(description="Newest first.")
    likes: list[int | str]
    dislikes: list[int | str]
    said: dict[str, list[int | str]] = Field(description="Items of each kind of your own, the newest last.")
    attributes: dict[str, str]


class Erased(BaseModel):
    """A listener was erased."""

    user: int | str
    listens: int = Field(description="How many past listens no replay counts any more.")


class Why(BaseModel):
    """What led to an answer: `botify why --json` (docs/why.md)."""

    user: str
    sentence: str = Field(description="For the listener.")
    assignment: list[str] = Field(description="Of each experiment, the listener's treatment.")
    head: str = Field(description="Who answered.")
    recomputed: dict[str, Any] = Field(description="Whether the answer is `equal`, what is `missing`, what `differs`.")
    request: dict[str, Any]
    answer: dict[str, Any]
    state: dict[str, Any]
    draws: dict[str, float]
    candidates: list[dict[str, Any]] = Field(description="The best, with their scores.")
    happened: dict[str, Any] | None = Field(default=None, description="The listen that is attributed to it.")
    why_not: str | None = None


class ErasureStatus(BaseModel):
    """Where a listener's erasure stands."""

    user: int | str
    status: Literal["running", "done", "failed"]
    listens: int | None = Field(default=None, description="Of one that is done.")
    detail: str | None = Field(default=None, description="Of one that has failed: why. Ask for it again.")
    since_ms: int | None = Field(default=None, description="Wall clock.")
