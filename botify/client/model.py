"""What is sent and received, as frozen data classes, and what a call may raise."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

Id = int | str  # a number, or the external id of a data set


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What a listener did: `listen`, `skip`, `like`, `dislike`, `unlike`, `shown` or a kind that the service declares.

    Its id lets a retry count once. One that was `shown` has `items`, any other an `item`.
    `fraction` is the share that was heard; `time` has a time zone, and None is now; a `session` of None is the
    listener's current one.

    Examples
    --------
    >>> Event.listen("alice", "t-17", 0.8, id="e1").to_json()
    {'kind': 'listen', 'user': 'alice', 'item': 't-17', 'id': 'e1', 'fraction': 0.8}
    """

    kind: str
    user: Id
    item: Id | None = None
    items: Sequence[Id] = ()
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    fraction: float | None = None
    time: datetime | None = None
    session: str | None = None
    ends_session: bool = False

    @classmethod
    def listen(cls, user: Id, item: Id, fraction: float = 1.0, **more: Any) -> Self:
        return cls(kind="listen", user=user, item=item, fraction=fraction, **more)

    @classmethod
    def skip(cls, user: Id, item: Id, fraction: float = 0.0, **more: Any) -> Self:
        return cls(kind="skip", user=user, item=item, fraction=fraction, **more)

    @classmethod
    def like(cls, user: Id, item: Id, **more: Any) -> Self:
        return cls(kind="like", user=user, item=item, **more)

    @classmethod
    def dislike(cls, user: Id, item: Id, **more: Any) -> Self:
        return cls(kind="dislike", user=user, item=item, **more)

    @classmethod
    def unlike(cls, user: Id, item: Id, **more: Any) -> Self:
        """Return what withdraws a like or a dislike."""
        return cls(kind="unlike", user=user, item=item, **more)

    @classmethod
    def shown(cls, user: Id, items: Sequence[Id], **more: Any) -> Self:
        """Return that items were on the listener's screen."""
        return cls(kind="shown", user=user, items=items, **more)

    def to_json(self) -> dict[str, Any]:
        of: dict[str, Any] = {"items": [*self.items]} if self.kind == "shown" else {"item": self.item}
        body: dict[str, Any] = {"kind": self.kind, "user": self.user, **of, "id": self.id}
        for name in ("fraction", "session"):
            if getattr(self, name) is not None:
                body[name] = getattr(self, name)
        if self.time is not None:
            body["time"] = self.time.isoformat()
        if self.ends_session:
            body["ends_session"] = True
        return body


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why an item was recommended; see the service's OpenAPI document."""

    policy: str
    score: float
    text: str
    because: "Item | None" = None
    features: Mapping[str, bool] = field(default_factory=dict)
    model_versions: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """An item; what is not known is None, and `score` is None outside lists, `propensity` outside recommendations."""

    item: Id
    number: int
    title: str
    artist: str
    album: str | None = None
    genre: str | None = None
    genres: Sequence[str] | None = None
    mood: str | None = None
    year: int | None = None
    country: str | None = None
    score: float | None = None
    propensity: float | None = None
    reason: Reason | None = None

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Self:
        """Read an item; fields that this client does not know are left out."""
        fields = _known(cls, body)
        if (reason := fields.get("reason")) is not None:
            because = reason.get("because")
            fields["reason"] = Reason(
                **{**_known(Reason, reason), "because": None if because is None else cls.of(because)}
            )
        return cls(**fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendations:
    """What is recommended, best first."""

    id: str
    user: Id
    items: Sequence[Item]
    policy: str
    propensity: float
    experiments: Mapping[str, str]
    fallback: bool

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Self:
        return cls(**{**_known(cls, body), "items": [Item.of(item) for item in body["items"]]})


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemPage:
    """A page of a list; `next` is None on the last one."""

    items: Sequence[Item]
    next: str | None = None

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Self:
        return cls(items=[Item.of(item) for item in body["items"]], next=body.get("next"))


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """What is known of a listener."""

    user: Id
    listens: int
    sessions: int
    last_listens: Sequence[Mapping[str, Any]]
    likes: Sequence[Id]
    dislikes: Sequence[Id]
    said: Mapping[str, Sequence[Id]] = field(default_factory=dict)  # items of each kind that the service declares
    attributes: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Self:
        return cls(**_known(cls, body))


def _known(kind: Any, body: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name in kind.__dataclass_fields__}


class BotifyClientError(Exception):
    """Any error of this client."""


class UnavailableError(BotifyClientError):
    """The service did not answer, or cannot serve at the moment, after all retries."""


class ProblemError(BotifyClientError):
    """The service refused the request: its HTTP status, and in `errors` JSON pointers of wrong fields, and why."""

    def __init__(self, status: int, detail: str, errors: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__("; ".join([f"{status}: {detail}", *(f"{where}: {why}" for where, why in errors)]))
        self.status = status
        self.detail = detail
        self.errors = errors


class NotFoundError(ProblemError):
    """There is no such item or listener."""
