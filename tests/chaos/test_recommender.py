"""A recommender is killed in the middle of requests."""

import time
from collections import Counter

from confluent_kafka import Producer

from botify.core.kafka.admin import end_offsets
from botify.core.kafka.config import key_of, producer_config
from botify.core.settings import Settings
from botify.schemas.codec import Codec
from botify.schemas.events import Recommendation, RecommendationRequest
from botify.schemas.topics import Topics
from tests.chaos.conftest import TRACKS, StartProgram
from tests.learning import publish_learned
from tests.support import Background, eventually, make_tracks, read_topic

CODEC = Codec()
USERS = 50
PER_S = 50
BACK_S = 10.0
PATIENCE_MS = 120_000
LEARNED = """
[[experiment]]
name = "LEARNED"
treatments = [
    { name = "C", recommender = "rerank" },
    { name = "T1", recommender = "next_track" },
]
"""


class Requests(Background):
    """Asks for recommendations until the end of the block."""

    def __init__(self, settings: Settings, codec: Codec = CODEC) -> None:
        super().__init__(self._ask)
        self._topic, self._codec = Topics.of(settings).recommendation_requests.name, codec
        self._producer = Producer(producer_config(settings))
        self.asked = 0

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        assert self._producer.flush(30) == 0

    def _ask(self) -> None:
        while not self._over.wait(1 / PER_S):
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


def test_no_request_waits_long_for_a_recommender_that_is_back(settings: Settings, start_program: StartProgram) -> None:
    killed = start_program("botify.services.recommender", "killed")
    with Requests(settings) as requests:
        eventually(lambda: len(answered(settings)) > 2 * PER_S)
        killed.kill()
        asked = requests.asked
        eventually(lambda: requests.asked > asked + PER_S)  # nobody answers these
        back = start_program("botify.services.recommender", "back")
        eventually(lambda: back.said("ready"))
        waiting = {f"r{number}" for number in range(requests.asked)}
        eventually(lambda: waiting <= answered(settings), BACK_S, lambda: len(waiting - answered(settings)))
    everything = {f"r{number}" for number in range(requests.asked)}
    eventually(lambda: everything == answered(settings), BACK_S)
    assert back.stop() == 0


def answers_behind(settings: Settings, skip: dict[int, int]) -> Counter[tuple[int, str]]:
    """Count the answers behind some offsets by listener, and by who gave them."""
    messages = read_topic(settings, Topics.of(settings).recommendations.name)
    replies = [CODEC.decode(one.value(), Recommendation) for one in messages if one.offset() >= skip[one.partition()]]
    return Counter((reply.user, reply.recommender) for reply in replies)


def learned_share(answers: Counter[tuple[int, str]]) -> float:
    """Return the share of answers from a model, and not by a fallback."""
    return sum(count for (_, by), count in answers.items() if by in ("rerank", "next_track")) / answers.total()


def test_from_its_first_answer_on_a_recommender_that_was_killed_serves_what_was_learned(
    settings: Settings, start_program: StartProgram
) -> None:
    experiments, topic = settings.home / "learned.toml", Topics.of(settings).recommendations.name
    experiments.write_text(LEARNED)
    publish_learned(settings, make_tracks(TRACKS))
    killed = start_program("botify.services.recommender", "killed", experiments=experiments)

    def answers_since(offsets: dict[int, int]) -> int:
        return sum(end_offsets(settings, topic).values()) - sum(offsets.values())

    with Requests(settings):
        beginning = dict.fromkeys(range(settings.partitions), 0)
        eventually(lambda: answers_since(beginning) > 3 * USERS)
        before = answers_behind(settings, beginning)
        killed.kill()
        killed_at = end_offsets(settings, topic)
        start_program("botify.services.recommender", "back", experiments=experiments)
        eventually(lambda: answers_since(killed_at) > 3 * USERS)
        after = answers_behind(settings, killed_at)
        # a listener's treatment is the same in all requests, and so is the model that answers
        assert after.keys() == before.keys(), after.keys() ^ before.keys()
        assert learned_share(before) > 0.9
