"""Kafka or Redis are away while listeners ask the gateway."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from schemas.codec import Codec
from schemas.events import Listen
from schemas.settings import Settings
from schemas.topics import Topics
from services.stack.embedded import EmbeddedStack
from tests.integration.gateway.conftest import ready, start
from tests.support import eventually, read_topic, running

DEADLINE_S = 2.0
USER = 42


@pytest.fixture
def client(settings: Settings) -> Iterator[httpx.Client]:
    """A gateway whose recommender is there too."""
    with ExitStack() as programs:
        programs.enter_context(running(settings, "services.recommender"))
        client = start(programs, settings, "gateway", DEADLINE_MS=int(DEADLINE_S * 1000))
        eventually(lambda: ready(client), 60)
        eventually(lambda: ask(client).status_code == 200, 60)
        yield client


def ask(client: httpx.Client) -> httpx.Response:
    """Say that a track was heard; an answer that takes much longer than the deadline is an error."""
    answer = client.post(f"/next/{USER}", json={"track": 7, "time": 0.5}, timeout=DEADLINE_S + 8.0)
    assert answer.status_code in (200, 503), answer.text
    return answer


def sent_away(client: httpx.Client) -> bool:
    """Whether the gateway knows by now that it cannot serve, so that it says so at once."""
    began_s = time.monotonic()
    answer = ask(client)
    took_s = time.monotonic() - began_s
    return answer.status_code == 503 and int(answer.headers["retry-after"]) >= 1 and took_s < DEADLINE_S / 2


def positions(settings: Settings) -> list[tuple[str, int]]:
    messages = read_topic(settings, Topics.of(settings).listens.name)
    listens = [Codec().decode(message.value(), Listen) for message in messages]
    assert len({listen.event_id for listen in listens}) == len(listens)
    return [(listen.session_id, listen.position) for listen in listens]


@pytest.mark.parametrize("how", ["killed", "paused"])
def test_without_kafka_clients_are_sent_away_until_it_is_back(
    client: httpx.Client, settings: Settings, stack: EmbeddedStack, how: str
) -> None:
    """Invariant: nobody waits much longer than the deadline, and what was answered with 200 is in the topic."""
    try:
        stack.kafka.kill() if how == "killed" else stack.kafka.pause()
        eventually(lambda: sent_away(client), 60)
        assert not ready(client)
        assert client.get("/healthz").status_code == 200
    finally:
        if how == "killed":
            stack.kafka.start()
        else:
            stack.kafka.resume()
    eventually(lambda: ask(client).status_code == 200, 60)
    eventually(lambda: ready(client))
    served = [ask(client) for _ in range(5)]
    assert [answer.status_code for answer in served] == [200] * 5
    told = positions(settings)
    assert len(set(told)) == len(told)
    assert len({session for session, _ in told}) == 1


def test_without_redis_clients_are_sent_away_until_it_is_back(
    client: httpx.Client, settings: Settings, stack: EmbeddedStack
) -> None:
    """Invariant: as without Kafka; no place in a session is given twice."""
    try:
        stack.valkey.kill()
        answer = eventually(lambda: (found := ask(client)).status_code == 503 and found, 60)
        assert "Redis does not answer" in answer.json()["detail"]
        eventually(lambda: not ready(client))
    finally:
        stack.valkey.start()
    eventually(lambda: ask(client).status_code == 200, 60)
    eventually(lambda: ready(client))
    told = positions(settings)
    assert len(set(told)) == len(told)
