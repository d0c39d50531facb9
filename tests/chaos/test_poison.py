"""Producers whose clock or unit is wrong, among listens that are right and while the gateway serves."""

import time

import httpx
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
    Background,
    eventually,
    make_listens,
    offline_fold,
    produce_raw,
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


class Traffic(Background):
    """Listeners at the gateway, one request after the other."""

    def __init__(self, client: httpx.Client) -> None:
        super().__init__(self._run)
        self._client = client
        self.statuses: list[int] = []

    def _run(self) -> None:
        while not self._over.wait(0.01):
            user = GATEWAY_USERS + len(self.statuses) % 20
            answer = self._client.post(f"/next/{user}", json={"track": 7, "time": 0.5})
            self.statuses.append(answer.status_code)


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
    with Traffic(gateway(DEADLINE_MS=10_000)) as traffic:
        eventually(lambda: len(traffic.statuses) > 20)
        produce_raw(settings, topics.listens.name, records)
        caught_up(settings)
        seen = len(traffic.statuses)
        eventually(lambda: len(traffic.statuses) > seen + 50)
    caught_up(settings)
    assert set(traffic.statuses) == {200}
    listens = read_topic(settings, topics.listens.name)
    told = [CODEC.decode(message.value(), Listen) for message in listens if int(message.key()) >= GATEWAY_USERS]
    assert max(listen.timestamp_ms for listen in told) <= time.time() * 1000
    clean = offline_fold(settings, without={(m.partition(), m.offset()) for m in listens if is_poison(m)})
    assert clean.rejected == []
    assert redis_contents(settings) == clean.contents()
    sent = {CODEC.decode(m.value(), Session) for m in read_topic(settings, topics.sessions.name)}
    assert sent == set(clean.sessions)
    letters = read_topic(settings, topics.dead_letters.name)
    assert len(letters) == OF_EACH * len(wrong)
    assert all(is_poison(letter) for letter in letters)
    reasons = [dict(letter.headers())[f"{PREFIX}exception.message"].decode() for letter in letters]
    assert all(reason.startswith("timestamp_ms ") for reason in reasons)
    assert worker.running
