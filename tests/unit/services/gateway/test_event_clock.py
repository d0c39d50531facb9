"""Invariant: clients of the gateway, however many, move event time ahead of the brokers' clock by one fixed bound."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from botify.core.kafka.config import key_of, partition_of
from botify.core.kafka.record_columns import RecordColumns
from botify.schemas.event_time import LEAD_MS, EventTime, Lead
from botify.schemas.events import Listen
from botify.schemas.listen_columns import accept_listens
from botify.schemas.validation import MAX_TRACK, MAX_USER, Intake, decode_and_validate
from botify.services.errors import UnknownTrackError, WrongEventError
from botify.services.gateway.sessions import RequestId
from botify.services.gateway.state import SKEW_MS, EventClock
from botify.services.gateway.v1.events import EventPublisher
from botify.services.gateway.v1.models import Event, EventsCall
from tests.support import Clock
from tests.unit.services.gateway.fakes import NOW_MS, TRACKS, FakeGateway
from tests.unit.streams.worker.records import CODEC, KafkaRecord

CLIENTS, PARTITIONS, ROUNDS, ROUND_MS = 1_000, 16, 12, 5_000
START_MS = 1_700_000_000_000


async def latest_accepted(publisher: EventPublisher, user: int, wall_ms: int) -> int:
    """Return the latest time that the gateway takes of a client, searched in halves."""
    low, high = wall_ms, wall_ms + 10**9
    while low < high:
        middle = (low + high + 1) // 2
        time = datetime.fromtimestamp(middle / 1000, UTC).isoformat()
        event = Event(kind="listen", user=user, item=1, time=time)  # type: ignore[arg-type]
        try:
            await publisher._resolve(event, 0, RequestId("g", None, None), {})
            low = middle
        except WrongEventError:
            high = middle - 1
    return low


async def test_a_thousand_clients_move_event_time_by_no_more_than_the_skew() -> None:
    wall, gateway = Clock(START_MS / 1000), FakeGateway()
    clock = EventClock(PARTITIONS, wall)
    gateway.service = replace(gateway.service, clock=clock)
    publisher = EventPublisher(gateway.service, gateway.listeners, "feedback", gateway.kinds)
    times = [EventTime() for _ in range(PARTITIONS)]
    partitions = {user: partition_of(user, PARTITIONS) for user in range(CLIENTS)}
    one_of = {partition: user for user, partition in partitions.items()}
    for wall_ms in range(START_MS, START_MS + ROUNDS * ROUND_MS, ROUND_MS):
        wall.now_s = wall_ms / 1000
        latest_ms = {partition: await latest_accepted(publisher, user, wall_ms) for partition, user in one_of.items()}
        for partition in partitions.values():
            times[partition].advance(latest_ms[partition], taken_ms=wall_ms, headers=(), lead=Lead())
        clock.follow({partition: one.newest_ms for partition, one in enumerate(times)}, PARTITIONS)
        assert max(one.newest_ms for one in times) - wall_ms == SKEW_MS
    assert gateway.rpc.headers == []


def test_a_producer_that_leads_by_the_bound_moves_no_gateway() -> None:
    """Invariant: what is stamped by the gateway is accepted by the worker, whoever else leads."""
    clock = EventClock(1, Clock(START_MS / 1000))
    clock.follow({0: START_MS + LEAD_MS}, 1)
    assert clock.now_ms(42) == START_MS


def test_simulated_time_is_followed_and_its_clients_do_not_lead_it() -> None:
    wall, simulated_ms = Clock(START_MS / 1000), START_MS + 24 * 60 * 60 * 1000
    clock = EventClock(1, wall)
    clock.follow({0: simulated_ms}, 1)
    assert clock.now_ms(42) == clock.latest_ms(42) == simulated_ms
    wall.now_s += ROUND_MS / 1000
    clock.follow({0: simulated_ms}, 1)
    assert clock.now_ms(42) == simulated_ms + ROUND_MS


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


def check_folded(listens: Sequence[Listen]) -> None:
    """Fold the listens both ways, as of when the gateway made them."""
    records = [KafkaRecord(at, key_of(listen.user), CODEC.encode(listen), NOW_MS) for at, listen in enumerate(listens)]
    intake: Any = Intake(CODEC, range(TRACKS))
    judged = decode_and_validate(records, Listen, intake, event_time=EventTime())
    assert [one for _, one in judged] == list(listens)
    columns, rejected = accept_listens(RecordColumns.of(records), intake, EventTime())
    assert (len(columns), rejected) == (len(listens), [])


@settings(max_examples=200)
@given(st.lists(EVENTS, min_size=1, max_size=4), st.none() | st.text(st.characters(codec="ascii"), min_size=1))
@example([{"kind": "listen", "user": 42, "item": 7, "session": "𝄞" * 200}], None)
def test_an_event_that_is_answered_with_200_is_folded(events: list[dict[str, Any]], key: str | None) -> None:
    gateway = FakeGateway()
    publisher = EventPublisher(gateway.service, gateway.listeners, "feedback", gateway.kinds)
    for body in (events[0], {"events": events}):
        try:
            call = BODIES.validate_python({"body": body})
            given = getattr(call.body, "events", [call.body])
            asyncio.run(publisher.publish(given, RequestId("g" * 32, b"c", key)))
        except (ValidationError, WrongEventError):
            continue
    if gateway.rpc.listens:
        check_folded(gateway.rpc.listens)


def test_a_track_that_no_history_can_hold_is_unknown() -> None:
    gateway = FakeGateway()
    gateway.catalogue.put([gateway.catalogue.tracks[7]._replace(track=MAX_TRACK + 1, external_id="beyond")])
    with pytest.raises(UnknownTrackError):
        asyncio.run(gateway.service.track("beyond"))
