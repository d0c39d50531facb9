"""Invariant: clients of the gateway, however many, move event time ahead of the brokers' clock by one fixed bound."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from botify.core.kafka.config import partition_of
from botify.schemas.event_time import LEAD_MS, EventTime, Lead
from botify.services.errors import WrongEventError
from botify.services.gateway.sessions import RequestId
from botify.services.gateway.state import SKEW_MS, EventClock
from botify.services.gateway.v1.events import EventPublisher
from botify.services.gateway.v1.models import Event
from tests.unit.services.gateway.fakes import FakeGateway

CLIENTS, PARTITIONS, ROUNDS, ROUND_MS = 1_000, 16, 12, 5_000
START_MS = 1_700_000_000_000
FURTHEST_MS = LEAD_MS // 2
"""No client needs more."""


class Wall:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.ms = START_MS

    def __call__(self) -> float:
        return self.ms / 1000


def latest_accepted(publisher: EventPublisher, user: int, wall_ms: int) -> int:
    """Return the latest time that the gateway takes of a client, searched in halves."""
    low, high = wall_ms, wall_ms + 10**9
    while low < high:
        middle = (low + high + 1) // 2
        try:
            asyncio.run(publisher._resolve(event_at(user, middle), 0, RequestId("g", None, None)))
            low = middle
        except WrongEventError:
            high = middle - 1
    return low


def event_at(user: int, time_ms: int) -> Event:
    return Event(kind="listen", user=user, item=1, time=datetime.fromtimestamp(time_ms / 1000, UTC).isoformat())  # type: ignore[arg-type]


def test_a_thousand_clients_move_event_time_by_no_more_than_the_skew() -> None:
    wall, gateway = Wall(), FakeGateway()
    clock = EventClock(PARTITIONS, wall)
    gateway.service = replace(gateway.service, clock=clock)
    publisher = EventPublisher(gateway.service, gateway.listeners, gateway.users, "feedback")
    times = [EventTime() for _ in range(PARTITIONS)]
    users = range(CLIENTS)
    one_of = {partition_of(user, PARTITIONS): user for user in users}
    for _ in range(ROUNDS):
        latest_ms = {partition: latest_accepted(publisher, user, wall.ms) for partition, user in one_of.items()}
        for user in users:
            partition = partition_of(user, PARTITIONS)
            times[partition].advance(latest_ms[partition], taken_ms=wall.ms, headers=(), lead=Lead())
        clock.follow({partition: one.newest_ms for partition, one in enumerate(times)}, PARTITIONS)
        assert max(one.newest_ms for one in times) - wall.ms == SKEW_MS
        wall.ms += ROUND_MS
    assert gateway.rpc.headers == []


def test_a_producer_that_leads_by_the_bound_moves_no_gateway() -> None:
    """Invariant: what is stamped by the gateway is accepted by the worker, whoever else leads."""
    wall = Wall()
    clock = EventClock(1, wall)
    clock.follow({0: START_MS + LEAD_MS}, 1)
    assert clock.now_ms(42) == START_MS


def test_simulated_time_is_followed_and_its_clients_do_not_lead_it() -> None:
    wall, day_ms = Wall(), 24 * 60 * 60 * 1000
    clock = EventClock(1, wall)
    clock.follow({0: START_MS + day_ms}, 1)
    assert clock.now_ms(42) == clock.latest_ms(42) == START_MS + day_ms
    wall.ms += ROUND_MS
    clock.follow({0: START_MS + day_ms}, 1)
    assert clock.now_ms(42) == START_MS + day_ms + ROUND_MS


@pytest.mark.parametrize(("ahead_ms", "taken"), [(SKEW_MS, True), (SKEW_MS + 1, False), (FURTHEST_MS, False)])
def test_a_client_may_be_ahead_of_the_wall_clock_by_seconds(ahead_ms: int, taken: bool) -> None:
    wall, gateway = Wall(), FakeGateway()
    gateway.service = replace(gateway.service, clock=EventClock(1, wall))
    publisher = EventPublisher(gateway.service, gateway.listeners, gateway.users, "feedback")
    assert (latest_accepted(publisher, 42, wall.ms) >= wall.ms + ahead_ms) is taken
