"""Producers whose clock or unit is wrong, among listens that are right and while the gateway serves."""

import time

import numpy as np
from confluent_kafka import Message

from botify.core.errors import DecodeError
from botify.core.kafka.config import key_of
from botify.core.settings import Settings
from botify.schemas.codec import Codec
from botify.schemas.dead_letters import PREFIX
from botify.schemas.events import Listen, Session
from botify.schemas.topics import Topics
from tests.chaos.conftest import TRACKS, StartProgram
from tests.chaos.whole import caught_up
from tests.integration.services.gateway.conftest import StartGateway
from tests.support import (
    Repeatedly,
    eventually,
    make_listens,
    offline_fold,
    produce_raw,
    read_events,
    read_topic,
    redis_contents,
)

CODEC = Codec()
USERS = 500
GOOD = 2_000
OF_EACH = 25
GATEWAY_USERS = 1_000_000
"""The listeners at the gateway have ids from here on."""
STEP_MS = 10_000
"""Event time between two listens of `make_listens`."""

DAY_MS = 24 * 60 * 60 * 1000
YEAR_100000_MS = 3_093_527_980_800_000


def is_poison(message: Message) -> bool:
    try:
        return CODEC.decode(message.value(), Listen).event_id.startswith("poison")
    except DecodeError:
        return False


def test_wrong_clocks_become_dead_letters_and_change_nothing(
    settings: Settings, start_program: StartProgram, gateway: StartGateway
) -> None:
    """Invariant: state, sessions and answers are those of a topic that never had the wrong listens."""
    rng, topics = np.random.default_rng(12), Topics.of(settings)
    first_ms = int(time.time() * 1000) - GOOD * STEP_MS
    made = make_listens(GOOD, USERS, TRACKS, seed=12)
    base_ms = made[0].timestamp_ms
    good = [listen._replace(timestamp_ms=listen.timestamp_ms - base_ms + first_ms) for listen in made]
    wrong = [YEAR_100000_MS, first_ms * 1000, 2**52, int(time.time() * 1000) + DAY_MS]
    records = [(key_of(listen.user), CODEC.encode(listen)) for listen in good]
    for number, place in enumerate(np.sort(rng.integers(GOOD, size=OF_EACH * len(wrong)))[::-1].tolist()):
        poison = good[place]._replace(event_id=f"poison-{number}", timestamp_ms=wrong[number % len(wrong)])
        records.insert(place, (key_of(poison.user), CODEC.encode(poison)))
    worker = start_program("botify.streams.worker", "worker")
    start_program("botify.services.recommender", "recommender")
    client, statuses = gateway(DEADLINE_MS=10_000), list[int]()

    def listen() -> None:
        user = GATEWAY_USERS + len(statuses) % 20
        statuses.append(client.post(f"/next/{user}", json={"track": 7, "time": 0.5}).status_code)

    with Repeatedly(0.01, listen):
        eventually(lambda: len(statuses) > 20)
        produce_raw(settings, topics.listens.name, records)
        caught_up(settings)
        seen = len(statuses)
        eventually(lambda: len(statuses) > seen + 50)
    caught_up(settings)
    assert set(statuses) == {200}
    listens = read_topic(settings, topics.listens.name)
    told = [CODEC.decode(message.value(), Listen) for message in listens if int(message.key()) >= GATEWAY_USERS]
    assert max(listen.timestamp_ms for listen in told) <= time.time() * 1000
    clean = offline_fold(settings, without={(m.partition(), m.offset()) for m in listens if is_poison(m)})
    assert clean.rejected == []
    assert redis_contents(settings) == clean.contents()
    assert set(read_events(settings, topics.sessions, Session)) == set(clean.sessions)
    letters = read_topic(settings, topics.dead_letters.name)
    assert len(letters) == OF_EACH * len(wrong)
    assert all(is_poison(letter) for letter in letters)
    reasons = [dict(letter.headers())[f"{PREFIX}exception.message"].decode() for letter in letters]
    assert all(reason.startswith("timestamp_ms ") for reason in reasons)
    assert worker.running
