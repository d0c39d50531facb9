"""Invariant: of three workers and three brokers one each may die, and nothing is lost or folded twice."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.compose.deployment import BUILD_S, Deployment, deployment, docker
from tests.support import eventually

FILES = ("docker-compose.yml", "docker-compose.cluster.yml")
SCALED = ("--scale", "simulator=1", "--scale", "worker=3")
STEP = 2_000
"""Listens between two deaths."""
USER = 4242

LOOK = f"""
import json
from botify.schemas.codec import Codec
from botify.schemas.events import Listen, Recommendation, RecommendationRequest
from botify.core.settings import Settings
from botify.core.kafka.reader import TopicReader
from botify.schemas.topics import Topics

settings, codec = Settings.from_env(), Codec()
topics = Topics.of(settings)

def read(topic, event):
    for batch in TopicReader(settings, topic.name).read_to_end():
        for message in batch:
            yield codec.decode(message.value(), event)

asked = {{request.request_id for request in read(topics.recommendation_requests, RecommendationRequest)}}
answered = {{answer.request_id for answer in read(topics.recommendations, Recommendation)}}
told = [listen.event_id for listen in read(topics.listens, Listen) if listen.user == {USER}]
print(json.dumps({{"asked": len(asked), "unanswered": len(asked - answered), "told": told}}))
"""
"""What the topics say at the end; runs in a container, because they are not reached from outside."""


def test_a_worker_and_a_broker_die_and_nothing_is_lost(tmp_path: Path) -> None:
    with deployment(tmp_path, *FILES) as botify:
        botify.compose("up", "--build", "--wait", *SCALED, timeout_s=BUILD_S)
        with _client(botify) as listener:
            _wait_for_listens(botify, STEP)
            docker("kill", botify.containers("worker")[0]["Name"])
            eventually(lambda: botify.metrics("worker")["botify_worker_partitions"] == 8, 90, "the heirs' claims")
            _wait_for_listens(botify, STEP)
            docker("kill", botify.containers("kafka-2")[0]["Name"])
            _wait_for_listens(botify, STEP)
        assert listener.served

        botify.compose("stop", "simulator", "gateway")
        eventually(lambda: _lag(botify) == 0, 90, lambda: botify.metrics("worker"))
        report = json.loads(_run(botify, "botify", "verify", "--json"))
        assert report["ok"], report["differences"]
        assert report["listens"] > 3 * STEP
        topics = json.loads(_run(botify, "python", "-c", LOOK))
        assert topics["asked"] > 3 * STEP
        late = botify.metrics("recommender")["botify_recommender_expired_total"]
        assert topics["unanswered"] <= late, "a request was lost that was not past its deadline"
        # a listen that was not acknowledged in time is told again, with its id
        assert len(set(listener.served)) == len(listener.served)
        assert set(listener.served) <= set(topics["told"])


def _wait_for_listens(botify: Deployment, more: int) -> None:
    """Wait until so many more listens were made by listeners who were answered."""
    name = "botify_simulator_recommendations_total"
    wanted = botify.metrics("simulator").get(name, 0) + more
    eventually(lambda: botify.metrics("simulator").get(name, 0) >= wanted, 120, lambda: botify.metrics("simulator"))


def _lag(botify: Deployment) -> float:
    return sum(lag for name, lag in botify.metrics("worker").items() if name.startswith("botify_worker_lag_records"))


def _run(botify: Deployment, *command: str) -> str:
    return botify.compose("run", "--rm", "--no-deps", "-T", "worker", *command)


class _Listener(threading.Thread):
    """Listens through the gateway until `done`, and comes again where it is told to."""

    def __init__(self, botify: Deployment) -> None:
        super().__init__(name="listener")
        self._botify = botify
        self.done = threading.Event()
        self.served: list[str] = []
        self.wrong: list[object] = []

    def run(self) -> None:
        track = 7
        while not self.done.is_set():
            answer = self._botify.ask(f"/next/{USER}", {"track": track, "time": 0.5})
            if answer.status == 200:
                track = json.loads(answer.body)["track"]
                self.served.append(answer.headers["x-event-id"])
            elif answer.status == 503:
                time.sleep(float(answer.headers["retry-after"]))
            else:
                self.wrong.append(answer)


@contextmanager
def _client(botify: Deployment) -> Iterator[_Listener]:
    """Let a listener listen through the gateway inside the block, who is served again at its end."""
    listener = _Listener(botify)
    listener.start()
    try:
        yield listener
        before = len(listener.served)
        eventually(lambda: len(listener.served) > before, 60, "the listener is served after all that")
    finally:
        listener.done.set()
        listener.join(30)
        assert not listener.is_alive(), "a request was never answered"
        assert not listener.wrong
