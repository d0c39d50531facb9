"""A recommender is killed in the middle of requests."""

import threading
import time
from collections import Counter

from confluent_kafka import Producer

from botify.core.kafka.admin import end_offsets
from botify.core.kafka.config import key_of, producer_config
from botify.core.settings import Settings
from botify.schemas.codec import Codec
from botify.schemas.events import Recommendation, RecommendationRequest
from botify.schemas.topics import Topics
from tests.chaos.conftest import TRACKS
from tests.chaos.programs import Program
from tests.learning import publish_learned
from tests.support import eventually, make_tracks, read_topic

CODEC = Codec()
USERS = 50
PER_S = 50
BACK_S = 10.0
PATIENCE_MS = 120_000
KILLS = 1
LEARNED = """
[[experiment]]
name = "LEARNED"
treatments = [
    { name = "C", recommender = "rerank" },
    { name = "T1", recommender = "next_track" },
]
"""


class Requests:
    """Asks for recommendations from a thread until it is told to stop."""

    def __init__(self, settings: Settings, codec: Codec = CODEC) -> None:
        self._topic, self._codec = Topics.of(settings).recommendation_requests.name, codec
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
        while not self._stopping.wait(1 / PER_S):
            user, now_ms = self.asked % USERS, int(time.time() * 1000)
            request = RecommendationRequest(
                f"r{self.asked}", user, f"s{user}", 0, self.asked % TRACKS, 0.5, now_ms, now_ms + PATIENCE_MS
            )
            self._producer.produce(self._topic, self._codec.encode(request), key_of(user))
            self._producer.poll(0)
            self.asked += 1


def answered(settings: Settings) -> set[str]:
    messages = read_topic(settings, Topics.of(settings).recommendations.name)
    return {CODEC.decode(message.value(), Recommendation).request_id for message in messages}


def test_no_request_waits_long_for_a_recommender_that_is_back(settings: Settings) -> None:
    killed = Program(settings, "botify.services.recommender", "killed")
    requests = Requests(settings)
    try:
        eventually(lambda: len(answered(settings)) > 2 * PER_S)
        killed.kill()
        asked = requests.asked
        eventually(lambda: requests.asked > asked + PER_S)  # nobody answers these
        back = Program(settings, "botify.services.recommender", "back")
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


def answers_behind(settings: Settings, skip: dict[int, int]) -> Counter[tuple[int, str]]:
    """Count the answers behind some offsets by listener, and by who gave them."""
    messages = read_topic(settings, Topics.of(settings).recommendations.name)
    replies = [CODEC.decode(one.value(), Recommendation) for one in messages if one.offset() >= skip[one.partition()]]
    return Counter((reply.user, reply.recommender) for reply in replies)


def learned_share(answers: Counter[tuple[int, str]]) -> float:
    """Return the share of answers from a model, and not by a fallback."""
    return sum(count for (_, by), count in answers.items() if by in ("rerank", "next_track")) / answers.total()


def test_from_its_first_answer_on_a_recommender_that_was_killed_serves_what_was_learned(settings: Settings) -> None:
    experiments = settings.home / "learned.toml"
    experiments.write_text(LEARNED)
    own, topic = settings.with_(experiments=experiments), Topics.of(settings).recommendations.name
    publish_learned(settings, make_tracks(TRACKS))
    serving = Program(own, "botify.services.recommender", "recommender-0")
    requests = Requests(settings)

    def answers_since(offsets: dict[int, int]) -> int:
        return sum(end_offsets(settings, topic).values()) - sum(offsets.values())

    try:
        beginning = dict.fromkeys(range(settings.partitions), 0)
        eventually(lambda: answers_since(beginning) > 3 * USERS)
        before = answers_behind(settings, beginning)
        for kill in range(1, KILLS + 1):
            serving.kill()
            killed_at = end_offsets(settings, topic)
            serving = Program(own, "botify.services.recommender", f"recommender-{kill}")
            eventually(lambda killed_at=killed_at: answers_since(killed_at) > 3 * USERS)
            after = answers_behind(settings, killed_at)
            print(f"kill {kill}: {after.total()} answers, {learned_share(after):.4f} learned")
            # a listener's treatment is the same in all requests, and so is the model that answers
            assert after.keys() == before.keys(), after.keys() ^ before.keys()
        assert learned_share(before) > 0.9
    finally:
        requests.stop()
        serving.stop()
