"""A recommender is killed in the middle of requests."""

from __future__ import annotations

import threading
import time

from confluent_kafka import Producer

from schemas.clients import key_of, producer_config
from schemas.codec import Codec
from schemas.events import Recommendation, RecommendationRequest
from schemas.settings import Settings
from schemas.topics import Topics
from tests.chaos.conftest import TRACKS
from tests.chaos.programs import Program
from tests.support import eventually, read_topic

USERS = 50
PER_S = 50
BACK_S = 10.0
PATIENCE_MS = 120_000


class Requests:
    """Asks for recommendations from a thread until it is told to stop."""

    def __init__(self, settings: Settings) -> None:
        self._topic = Topics.of(settings).recommendation_requests.name
        self._producer = Producer(producer_config(settings))
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()
        self.asked = 0

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()
        assert self._producer.flush(30) == 0

    def _ask(self) -> None:
        codec = Codec()
        while not self._stopping.wait(1 / PER_S):
            user, now_ms = self.asked % USERS, int(time.time() * 1000)
            request = RecommendationRequest(
                f"r{self.asked}", user, f"s{user}", 0, self.asked % TRACKS, 0.5, now_ms, now_ms + PATIENCE_MS
            )
            self._producer.produce(self._topic, codec.encode(request), key_of(user))
            self._producer.poll(0)
            self.asked += 1


def answered(settings: Settings) -> set[str]:
    """Return the ids of the requests that have an answer."""
    messages = read_topic(settings, Topics.of(settings).recommendations.name)
    return {Codec().decode(message.value(), Recommendation).request_id for message in messages}


def test_no_request_waits_long_for_a_recommender_that_is_back(settings: Settings) -> None:
    killed = Program(settings, "services.recommender", "killed")
    requests = Requests(settings)
    try:
        eventually(lambda: len(answered(settings)) > 2 * PER_S)
        killed.kill()
        asked = requests.asked
        eventually(lambda: requests.asked > asked + PER_S)  # nobody answers these
        back = Program(settings, "services.recommender", "back")
        eventually(lambda: back.said("ready"))
        waiting = {f"r{number}" for number in range(requests.asked)}
        eventually(lambda: waiting <= answered(settings), BACK_S, lambda: len(waiting - answered(settings)))
        requests.stop()
        everything = {f"r{number}" for number in range(requests.asked)}
        eventually(lambda: everything == answered(settings), BACK_S)
        assert back.stop() == 0
    finally:
        requests.stop()
        killed.stop()
