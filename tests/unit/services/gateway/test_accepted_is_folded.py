"""Invariant: what the gateway takes of a client the worker folds, one by one and in columns."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from botify.core.kafka.config import key_of
from botify.core.kafka.record_columns import RecordColumns
from botify.schemas.event_time import EventTime
from botify.schemas.events import Listen
from botify.schemas.listen_columns import accept_listens
from botify.schemas.validation import MAX_ID_BYTES, MAX_TRACK, MAX_USER, Intake, decode_and_validate
from botify.services.errors import UnknownTrackError, WrongEventError
from botify.services.gateway.sessions import RequestId
from botify.services.gateway.v1.events import EventPublisher
from botify.services.gateway.v1.models import EventsCall
from tests.unit.services.gateway.fakes import NOW_MS, TRACKS, FakeGateway
from tests.unit.streams.worker.records import CODEC, KafkaRecord

BODIES = TypeAdapter(EventsCall)
TEXTS = (
    st.text(max_size=220)
    | st.text(st.characters(), min_size=190, max_size=220)
    | st.sampled_from(["s" * 200, "s" * 255, "s" * 256, "𝄞" * 63, "𝄞" * 64, "𝄞" * 200, "é" * 127, "é" * 128, "\ud800"])
)
TIMES = st.sampled_from(
    ["1969-12-31T23:59:59.999Z", "1970-01-01T00:00:00Z", "1970-01-01T00:00:00.0004Z", "2200-01-01T00:00:00Z",
     "9999-12-31T23:59:59+14:00", "0001-01-01T00:00:00Z"]
) | st.datetimes().map(lambda moment: moment.isoformat() + "Z")  # fmt: skip
EVENTS = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["listen", "skip"]),
        "user": st.sampled_from([0, 42, 43, MAX_USER, MAX_USER + 1, -1, 42.0, "42", "042"]) | TEXTS,
        "item": st.sampled_from([0, 7, TRACKS - 1, MAX_TRACK, MAX_TRACK + 1, -1, 7.0, -0.0]),
    },
    optional={
        "fraction": st.floats() | st.sampled_from([-0.0, 0, 1, 5e-324, 1.0000000000000002]),
        "time": TIMES,
        "id": TEXTS,
        "session": TEXTS,
        "ends_session": st.booleans(),
    },
)


def folded(listens: Sequence[Listen]) -> None:
    """Fold the listens both ways, as of when the gateway made them."""
    records = [KafkaRecord(at, key_of(listen.user), CODEC.encode(listen), NOW_MS) for at, listen in enumerate(listens)]
    intake: Any = Intake(CODEC, range(TRACKS))
    judged = decode_and_validate(records, Listen, intake, event_time=EventTime())
    assert [one for _, one in judged] == list(listens)
    columns, rejected = accept_listens(RecordColumns.of(records), intake, EventTime())
    assert (len(columns), rejected) == (len(listens), [])


@settings(max_examples=200, deadline=None)
@given(st.lists(EVENTS, min_size=1, max_size=4), st.none() | st.text(st.characters(codec="ascii"), min_size=1))
@example([{"kind": "listen", "user": 42, "item": 7, "session": "𝄞" * 200}], None)
def test_an_event_that_is_answered_with_200_is_folded(events: list[dict[str, Any]], key: str | None) -> None:
    gateway = FakeGateway()
    publisher = EventPublisher(gateway.service, gateway.listeners, gateway.users, "feedback")
    for body in (events[0], {"events": events}):
        try:
            call = BODIES.validate_python({"body": body})
            given = getattr(call.body, "events", [call.body])
            asyncio.run(publisher.publish(given, RequestId("g" * 32, b"c", key)))
        except (ValidationError, WrongEventError):
            continue
    if gateway.rpc.listens:
        folded(gateway.rpc.listens)


@pytest.mark.parametrize(
    ("session", "taken"), [("s" * MAX_ID_BYTES, True), ("é" * 127 + "s", True), ("é" * 128, False)]
)
def test_the_name_of_a_session_is_bounded_in_bytes_as_the_worker_counts(session: str, taken: bool) -> None:
    body = {"kind": "listen", "user": 42, "item": 7, "session": session}
    if taken:
        BODIES.validate_python({"body": body})
    else:
        with pytest.raises(ValidationError, match=f"at most {MAX_ID_BYTES} bytes"):
            BODIES.validate_python({"body": body})


def test_a_track_that_no_history_can_hold_is_unknown() -> None:
    gateway = FakeGateway()
    known = gateway.catalogue.tracks[7]
    gateway.catalogue.put([known._replace(track=MAX_TRACK + 1, external_id="beyond")])
    with pytest.raises(UnknownTrackError):
        asyncio.run(gateway.service.track("beyond"))
