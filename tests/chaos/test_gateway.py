"""Kafka or Redis are away while listeners ask the gateway."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from botify.core.settings import Settings
from botify.schemas.events import Listen
from botify.schemas.topics import Topics
from botify.services.stack.embedded import EmbeddedStack
from tests.chaos.conftest import StartProgram
from tests.integration.services.gateway.conftest import StartGateway, ready
from tests.support import eventually, listens_of_users, offline_fold, read_events

DEADLINE_S = 2.0
USER = 42


class Listener:
    """Hears the same track for ever, and comes again with it where it was sent away."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client
        self.served: list[str] = []

    def ask(self) -> httpx.Response:
        """Say that the track was heard; an answer that takes much longer than the deadline is an error."""
        answer = self.client.post(f"/next/{USER}", json={"track": 7, "time": 0.5}, timeout=DEADLINE_S + 8.0)
        assert answer.status_code in (200, 503), answer.text
        if answer.status_code == 200:
            self.served.append(answer.headers["x-event-id"])
        return answer

    def is_served(self) -> bool:
        return self.ask().status_code == 200

    def is_sent_away(self) -> bool:
        """Whether the gateway knows by now that it cannot serve, so that it says so at once."""
        began_s = time.monotonic()
        answer = self.ask()
        took_s = time.monotonic() - began_s
        return answer.status_code == 503 and int(answer.headers["retry-after"]) >= 1 and took_s < DEADLINE_S / 2

    def assert_counted_once(self, settings: Settings) -> None:
        """Make sure that each call that was served is one listen at a place of its own, however often it was made."""
        listens = read_events(settings, Topics.of(settings).listens, Listen)
        places = {(listen.event_id, listen.session_id, listen.position) for listen in listens}
        assert len(self.served) == len(set(self.served))
        assert {event_id for event_id, _, _ in places} == set(self.served)
        assert [position for _, _, position in sorted(places, key=lambda place: place[2])] == list(range(len(places)))
        assert len({session for _, session, _ in places}) == 1
        assert listens_of_users(offline_fold(settings).contents()) == {USER: len(self.served)}


@pytest.fixture
def listener(start_program: StartProgram, gateway: StartGateway) -> Listener:
    """A listener at a gateway whose recommender is there too."""
    start_program("botify.services.recommender", "recommender")
    listener = Listener(gateway(DEADLINE_MS=int(DEADLINE_S * 1000)))
    eventually(listener.is_served, 60)
    return listener


@contextmanager
def away(server: Any, how: str) -> Iterator[None]:
    leave, return_ = (server.pause, server.resume) if how == "paused" else (server.kill, server.start)
    leave()
    try:
        yield
    finally:
        return_()


def test_without_kafka_or_redis_clients_are_sent_away_until_it_is_back(
    listener: Listener, settings: Settings, stack: EmbeddedStack
) -> None:
    """Invariant: nobody waits much longer than the deadline, and what was answered with 200 is in the topic, once."""
    client = listener.client
    for server, how in ((stack.kafka, "killed"), (stack.kafka, "paused"), (stack.valkey, "killed")):
        with away(server, how):
            eventually(listener.is_sent_away, 60)
            eventually(lambda: not ready(client))
            assert client.get("/healthz").status_code == 200
            refused = eventually(lambda: (answer := listener.ask()).status_code == 503 and answer, 60)
            assert server is stack.kafka or "Redis does not answer" in refused.json()["detail"]
        eventually(listener.is_served, 60)
        eventually(lambda: ready(client))
        assert [listener.is_served() for _ in range(5)] == [True] * 5
    listener.assert_counted_once(settings)
