"""Decode and validate records where they enter; inside, events are trusted."""

import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from operator import attrgetter
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import numpy as np
from confluent_kafka import Message
from numpy.typing import NDArray

from botify.core.errors import DecodeError, RejectedBeforeError, RejectedMessageError, ValidationError
from botify.core.kafka.config import key_of
from botify.schemas.codec import TOGETHER, Codec
from botify.schemas.event_time import EventTime, Lead
from botify.schemas.events import (
    DESCRIBED,
    NAMED,
    SHOWN,
    Feedback,
    Listen,
    Recommendation,
    RecommendationRequest,
    Session,
    TrainingBatch,
)

MAX_ID_BYTES = 255
MAX_NAME = 200  # characters of what a listener is called
MAX_USER = 2**53
MAX_TRACK = 2**31 - 1  # the largest id that fits into a listener's history, so that a larger one stops no worker
MAX_LIST = 10_000  # tracks of one answer at most
MAX_SLATE = 100  # tracks of a slate at most
MAX_BOOST = 10  # of a rule, which makes a ranking as many times longer
KIND = re.compile("[a-z][a-z0-9-]{0,31}")  # of feedback; what one means is declared, and no business of a fold
MAX_ATTRIBUTES, MAX_ATTRIBUTE = 16, 64  # of a listener, and characters of each value
ATTRIBUTE = re.compile("[a-z][a-z0-9_-]{0,31}")  # the name of one
MAX_TIMESTAMP_MS = 7_258_118_400_000  # the year 2200; the bound on a listen's lead is `EventTime`'s


def check(event: Listen | RecommendationRequest, key: bytes | None, raw: bytes) -> None:
    """Raise `ValidationError`, with the record's value `raw`, for an event whose fields or key cannot be true."""
    # one expression for valid events: this runs for every event
    if (
        0.0 <= event.fraction <= 1.0
        and 0 <= event.user <= MAX_USER
        and 0 <= event.track <= MAX_TRACK
        and 0 <= event.timestamp_ms <= MAX_TIMESTAMP_MS
        and event.position >= 0
        and 0 < len(event.session_id.encode()) <= MAX_ID_BYTES
        and 0 < len(event[0].encode()) <= MAX_ID_BYTES
        and key == b"%d" % event.user  # `key_of`, without the call
        and (event.__class__ is Listen or _wrong_wish(event) is None)
    ):
        return
    raise ValidationError(_why(event, key), raw)


def check_id(text: str) -> str:
    """Return the id of an event or session; raises ValueError if `check` refuses it, also for lone surrogates."""
    if not 0 < len(text.encode()) <= MAX_ID_BYTES:
        raise ValueError(f"an id has at most {MAX_ID_BYTES} bytes, and at least one")
    return text


def _wrong_wish(request: Any) -> str | None:
    """Return what is wrong with a request's list or slate; None if both are within their bounds."""
    size, slate = request.list_size, request.slate
    if size is not None and not 0 < size <= MAX_LIST:
        return f"list_size {size} is not between 1 and {MAX_LIST}"
    if slate is None:
        return None
    if not 0 < slate["size"] <= MAX_SLATE:
        return f"a slate of {slate['size']} tracks; it may have 1 to {MAX_SLATE}"
    if not all(0.0 <= weight <= 1.0 for weight in slate["liked_weights"]):
        return "a weight of what was liked is not between 0 and 1"
    if not all(rule["boost"] == 0.0 or 1.0 <= rule["boost"] <= MAX_BOOST for rule in slate["rules"]):
        return f"a boost of a rule is neither 0 nor between 1 and {MAX_BOOST}"
    return None


def _why(event: Listen | RecommendationRequest, key: bytes | None) -> str:
    if not 0.0 <= event.fraction <= 1.0:
        return f"fraction {event.fraction} is not between 0 and 1"
    if why := _wrong_user_or_track(event, key):
        return why
    if event.position < 0:
        return f"position {event.position} is negative"
    if isinstance(event, RecommendationRequest) and (why := _wrong_wish(event)):
        return why
    return f"{event._fields[0]} and session_id must have 1 to {MAX_ID_BYTES} bytes"


def _wrong_user_or_track(event: Listen | RecommendationRequest | Feedback, key: bytes | None) -> str | None:
    for name, highest in (("user", MAX_USER), ("track", MAX_TRACK), ("timestamp_ms", MAX_TIMESTAMP_MS)):
        if not 0 <= getattr(event, name) <= highest:
            return f"{name} {getattr(event, name)} is not between 0 and {highest}"
    if key != key_of(event.user):
        return f"the key {key!r} is not the user's id {event.user}, so the record may be in another user's partition"
    return None


def check_feedback(feedback: Feedback, key: bytes | None, raw: bytes) -> None:
    """Refuse feedback whose fields or key cannot be true; see `check`."""
    if why := _wrong_user_or_track(feedback, key):
        raise ValidationError(why, raw)
    if feedback.kind == NAMED and not 1 <= len(feedback.name or "") <= MAX_NAME:
        raise ValidationError(f"the name of a listener must have 1 to {MAX_NAME} characters", raw)
    if not KIND.fullmatch(feedback.kind):
        raise ValidationError(f"kind {feedback.kind!r} is no word of a-z, 0-9 and -, with at most 32 letters", raw)
    if feedback.kind == DESCRIBED and (why := wrong_attributes(feedback.attributes)):
        raise ValidationError(why, raw)
    if feedback.kind == SHOWN:
        tracks = feedback.tracks or ()
        if not 0 < len(tracks) <= MAX_SLATE or not all(0 <= track <= MAX_TRACK for track in tracks):
            raise ValidationError(f"shown are 1 to {MAX_SLATE} tracks, each of 0 to {MAX_TRACK}", raw)


def wrong_attributes(attributes: Mapping[str, str] | None) -> str | None:
    """Return what is wrong with the attributes of a listener; None if they can be kept."""
    if attributes is None or len(attributes) > MAX_ATTRIBUTES:
        return f"a listener is described by up to {MAX_ATTRIBUTES} attributes, not {len(attributes or ()) or 'none'}"
    for name, value in attributes.items():
        if not ATTRIBUTE.fullmatch(name):
            return f"attribute {name!r} is no word of a-z, 0-9, _ and -, with at most 32 letters"
        if not 1 <= len(value) <= MAX_ATTRIBUTE:
            return f"the value of attribute {name!r} must have 1 to {MAX_ATTRIBUTE} characters"
    return None


E = TypeVar("E", Listen, RecommendationRequest, Recommendation, Session, TrainingBatch, Feedback)

_CHECKS: Mapping[Any, Callable[..., None]] = {Listen: check, RecommendationRequest: check, Feedback: check_feedback}
"""Events from outside; the worker and the recommender make the others."""


class Rejected(NamedTuple):
    """A record that is not accepted, and why."""

    record: Any
    reason: RejectedMessageError


@dataclass(frozen=True, slots=True)
class Intake:
    """What decides whether a record is accepted, in addition to its own bytes."""

    codec: Codec
    known_tracks: Container[int] | None = None  # the catalogue; None accepts any track
    # updates `known_tracks`; called at most once a batch, before a track is rejected as unknown
    refresh: Callable[[], object] = int
    # records that are dead letters (`RejectedBefore.offsets`); they stay out, even if they could be accepted now
    rejected_before: Mapping[int, Container[int]] = field(default_factory=dict)
    # of the topic; read again before a listen is rejected for its time, at most once a batch
    lead: Lead = field(default_factory=Lead)


ERASURE = "botify-erasure"  # header of a tombstone; a record that merely has no value is a mistake, and erases nobody


def erased_user(record: Any) -> int | None:
    """Return the listener whom a record erases, or None: a tombstone has a key, no value, and the header `ERASURE`."""
    key = record.key
    if record.value is not None or key is None or len(key) > len(b"%d" % MAX_USER) or not key.isdigit():
        return None
    if all(name != ERASURE for name, _ in record.headers):
        return None
    user = int(key)
    return user if user <= MAX_USER and key == key_of(user) else None


def decode_and_validate(
    records: Sequence[Any],
    event: type[E],
    intake: Intake,
    *,
    validate: Callable[[E, bytes], Any] | None = None,
    tracks_of: Callable[[Any], Iterable[int]] | None = None,
    event_time: EventTime | None = None,
) -> Iterator[tuple[Any, Any]]:
    """Yield each record with its event, or with the `RejectedMessageError` that says why it is not accepted.

    The records are of one topic, in order. `validate` returns what is yielded or raises; by default the event, after
    `check` and a check of its time. `tracks_of` returns the tracks that must be known, by default `event.track`.
    `event_time` is that of the records' partition before the first of them; accepted records advance it.
    """
    values, keys = _column(records, "value"), _column(records, "key")
    known, before, refreshed = intake.known_tracks, intake.rejected_before, False
    intake.lead.begin_run()
    dead: Iterable[bool] = repeat(False)
    partitions = _column(records, "partition") if before else ()
    if not before.keys().isdisjoint(partitions):
        places = zip(partitions, _column(records, "offset"), strict=True)
        dead = [offset in before.get(partition, ()) for partition, offset in places]
    check_own = _CHECKS.get(event)

    def require(track: int, raw: bytes) -> None:
        nonlocal refreshed
        if not refreshed:
            intake.refresh()
            refreshed = True
        if known is not None and track not in known:
            raise ValidationError(f"track {track} is not in the catalogue", raw)

    decoded = intake.codec.decode_many(values, event)
    for record, raw, key, rejected, one in zip(
        records, values, keys, dead, decoded, strict=False
    ):  # `repeat` has no end
        try:
            if isinstance(one, DecodeError):
                raise one
            valid: Any = one
            if validate is not None:
                valid = validate(one, raw)
            elif check_own is not None:
                check_own(valid, key, raw)
            else:
                _check_time(one, raw)
            if known is not None:
                if tracks_of is None:
                    if valid.track not in known:
                        require(valid.track, raw)
                else:
                    for track in tracks_of(valid):
                        if track not in known:
                            require(track, raw)
            if rejected:
                raise RejectedBeforeError("it was dead-lettered before, so only redriving brings it in", raw)
            if event_time is not None and valid.timestamp_ms > event_time.newest_ms:
                event_time.advance(valid.timestamp_ms, record.timestamp, record.headers, intake.lead, raw)
        except RejectedMessageError as reason:
            yield record, reason
        else:
            yield record, valid


def iter_valid(
    messages: Sequence[Message],
    event: type[E],
    codec: Codec,
    rejected_before: Mapping[int, Container[int]] = MappingProxyType({}),
) -> Iterator[tuple[Message, E]]:
    """Yield the accepted messages with their events, in order; see `decode_and_validate`."""
    for message, one in decode_and_validate(messages, event, Intake(codec, rejected_before=rejected_before)):
        if not isinstance(one, RejectedMessageError):
            yield message, one


def _column(records: Sequence[Any], name: str) -> list[Any]:
    """Return an attribute of each record; of confluent's messages it is a method."""
    column = list(map(attrgetter(name), records))
    return [read() for read in column] if column and callable(column[0]) else column


def _check_time(event: Any, raw: bytes) -> None:
    """Refuse events made of listens that an earlier version accepted."""
    timestamp_ms = event.ended_ms if isinstance(event, Session) else event.timestamp_ms
    if timestamp_ms > MAX_TIMESTAMP_MS:
        raise ValidationError(f"time {timestamp_ms} is after {MAX_TIMESTAMP_MS}", raw)


Accepted = RecommendationRequest | RejectedMessageError


def accept_requests(messages: Sequence[Any], intake: Intake, partitions: int) -> list[Accepted]:
    """Return the request of each message, or why it is rejected; whether a track exists is a recommender's business."""
    if len(messages) < TOGETHER:
        return _one_by_one(messages, intake, partitions)
    values = [message.value() or b"" for message in messages]
    columns, good = intake.codec.read_columns(values, RecommendationRequest)
    good &= _are_valid(columns, [message.key() for message in messages], partitions)
    make: Any = tuple.__new__
    found: list[Accepted] = [make(RecommendationRequest, row) for row in zip(*columns, strict=True)]
    rows = np.flatnonzero(~good).tolist()
    if rows:
        judged = _one_by_one([messages[row] for row in rows], intake, partitions)
        for row, one in zip(rows, judged, strict=True):
            found[row] = one
    return found


def _one_by_one(messages: Sequence[Any], intake: Intake, partitions: int) -> list[Accepted]:
    found: list[Accepted] = []
    for message, one in decode_and_validate(messages, RecommendationRequest, intake):
        accepted: Accepted = one
        if isinstance(one, RecommendationRequest) and not _exists(one.reply_partition, partitions):
            why = f"reply_partition {one.reply_partition} is not between 0 and {partitions - 1}"
            accepted = ValidationError(why, message.value())
        found.append(accepted)
    return found


def _exists(reply_partition: int | None, partitions: int) -> bool:
    return reply_partition is None or 0 <= reply_partition < partitions


def _are_valid(columns: Sequence[list[Any]], keys: list[bytes | None], partitions: int) -> NDArray[np.bool_]:
    """Return which rows `check` would accept for certain: those without a `list_size` and a slate."""
    ids, users, sessions, positions, tracks, fractions, times_ms, _, list_sizes, reply_partitions, slates = columns
    valid: NDArray[np.bool_] = np.array([key == b"%d" % user for key, user in zip(keys, users, strict=True)])
    for numbers, highest in ((users, MAX_USER), (tracks, MAX_TRACK), (times_ms, MAX_TIMESTAMP_MS), (fractions, 1.0)):
        column = np.array(numbers)
        valid &= (column >= 0) & (column <= highest)
    valid &= np.array(positions) >= 0
    for texts in (ids, sessions):
        lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))  # good rows are ASCII
        valid &= (lengths > 0) & (lengths <= MAX_ID_BYTES)
    valid &= np.array([size is None for size in list_sizes], dtype=np.bool_)
    valid &= np.array([slate is None for slate in slates], dtype=np.bool_)
    exist = {one: _exists(one, partitions) for one in set(reply_partitions)}
    valid &= np.array([exist[one] for one in reply_partitions], dtype=np.bool_)
    return valid
