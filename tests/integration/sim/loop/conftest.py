"""A recommender for the simulator's tests, good or bad at will, and what it takes to look at topics."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from botify.core.kafka.admin import end_offsets
from botify.core.kafka.config import consumer_config, key_of, producer_config
from botify.core.settings import Settings
from botify.schemas.codec import Codec
from botify.schemas.events import Listen, Recommendation, RecommendationRequest
from botify.schemas.topics import Topics
from botify.sim.world.generate import generate
from botify.sim.world.model import World
from tests.support import Background, read_topic
from tests.unit.sim.conftest import SMALL

Answer = Callable[[RecommendationRequest, int], list[Recommendation]]


@pytest.fixture(scope="session")
def small_world() -> World:
    return World("small", *generate(SMALL), {})


def next_track(request: RecommendationRequest, attempt: int) -> list[Recommendation]:
    track = (request.track + 1) % 400
    how = "next", {"TEST": "T1"}, 0.5, 0, 1.0, request.timestamp_ms
    return [Recommendation(request.request_id, request.user, track, *how)]


class Recommender(Background):
    """Answers requests from a thread, as `answer` says."""

    def __init__(self, settings: Settings, answer: Answer) -> None:
        super().__init__(self._run)
        self.requests: list[RecommendationRequest] = []
        self._settings, self._answer = settings, answer
        self._topics, self._codec = Topics.of(settings), Codec()
        topic = self._topics.recommendation_requests.name
        self._consumer = Consumer(consumer_config(settings, "test-recommender", fetch_wait_max_ms=10))
        ends = end_offsets(settings, topic)
        self._consumer.assign([TopicPartition(topic, partition, offset) for partition, offset in ends.items()])
        self._producer = Producer(producer_config(settings))

    def __exit__(self, *_: object) -> None:
        try:
            super().__exit__()
        finally:
            self._producer.flush(10)
            self._consumer.close()

    def _run(self) -> None:
        attempts: dict[str, int] = {}
        while not self._over.is_set():
            for message in self._consumer.consume(500, 0.005):
                assert message.error() is None
                request = self._codec.decode(message.value(), RecommendationRequest)
                self.requests.append(request)
                attempts[request.request_id] = attempts.get(request.request_id, 0) + 1
                for recommendation in self._answer(request, attempts[request.request_id]):
                    value = self._codec.encode(recommendation)
                    assert request.reply_partition is not None
                    self._producer.produce(
                        self._topics.recommendations.name,
                        key=key_of(recommendation.user),
                        value=value,
                        partition=request.reply_partition,
                    )
            self._producer.poll(0)


@pytest.fixture
def recommender(settings: Settings) -> Iterator[Callable[[Answer], Recommender]]:
    with ExitStack() as stack:
        yield lambda answer=next_track: stack.enter_context(Recommender(settings, answer))


@pytest.fixture
def read_listens(settings: Settings) -> Callable[[], list[tuple[int, Listen]]]:
    """Return a function that reads (partition, listen) of the whole topic, each partition in its order."""
    codec, topic = Codec(), Topics.of(settings).listens.name
    return lambda: [(one.partition(), codec.decode(one.value(), Listen)) for one in read_topic(settings, topic)]


@pytest.fixture
def answer_next() -> Answer:
    return next_track
