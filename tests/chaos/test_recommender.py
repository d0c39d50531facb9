"""Recommenders are killed and restarted in the middle of requests: none waits long."""

import time
from collections import Counter
from functools import partial

from confluent_kafka import Producer

from botify.core.kafka.config import key_of, partition_of, producer_config
from botify.core.settings import Settings
from botify.schemas.codec import Codec
from botify.schemas.events import Recommendation, RecommendationRequest
from botify.schemas.topics import Topics
from tests.chaos.conftest import TRACKS, StartProgram
from tests.chaos.programs import Program
from tests.learning import publish_learned
from tests.support import Background, eventually, make_tracks, read_events

CODEC = Codec()
USERS = 50
PER_S = 50
BACK_S = 10.0
PATIENCE_MS = 120_000
LONG_SESSION_S = 30
"""Session timeout of which a fifth, a heartbeat of the classic protocol, is much longer than `STOPPED_MS`."""
STOPPED_MS = 1_000.0
"""Alone on a machine a partition that moves stops for about 100 ms; here other tests share the cores."""
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


def answered(settings: Settings) -> dict[str, Recommendation]:
    return {one.request_id: one for one in read_events(settings, Topics.of(settings).recommendations, Recommendation)}


def answers_of(settings: Settings, requests: range) -> Counter[tuple[int, str]]:
    """Count the answers to some requests by listener, and by who gave them."""
    replies = answered(settings)
    return Counter((replies[f"r{at}"].user, replies[f"r{at}"].recommender) for at in requests)


def learned_share(answers: Counter[tuple[int, str]]) -> float:
    """Return the share of answers from a model, and not by a fallback."""
    return sum(count for (_, by), count in answers.items() if by in ("rerank", "next_track")) / answers.total()


def test_a_recommender_that_is_back_answers_what_waited_from_what_was_learned(
    settings: Settings, start_program: StartProgram
) -> None:
    experiments = settings.home / "learned.toml"
    experiments.write_text(LEARNED)
    publish_learned(settings, make_tracks(TRACKS))

    def wait_for_answers(to: range, timeout_s: float = 60.0) -> None:
        asked = {f"r{number}" for number in to}
        eventually(lambda: asked <= answered(settings).keys(), timeout_s, lambda: asked - answered(settings).keys())

    killed = start_program("botify.services.recommender", "killed", experiments=experiments)
    with Requests(settings) as requests:
        before = range(3 * USERS)
        eventually(lambda: requests.asked > len(before))
        wait_for_answers(before)
        killed.kill()
        asked = requests.asked
        eventually(lambda: requests.asked > asked + 2 * USERS)  # nobody answers these
        back = start_program("botify.services.recommender", "back", experiments=experiments)
        eventually(lambda: back.said("ready"))
        waited = range(asked, requests.asked)
        wait_for_answers(range(requests.asked), BACK_S)
    wait_for_answers(range(requests.asked), BACK_S)
    assert answered(settings).keys() == {f"r{number}" for number in range(requests.asked)}
    served, served_again = answers_of(settings, before), answers_of(settings, waited)
    # a listener's treatment is the same in all requests, and so is the model that answers, from the first answer on
    assert served_again.keys() == served.keys(), served_again.keys() ^ served.keys()
    assert learned_share(served) > 0.9
    assert back.stop() == 0


def test_a_rolling_restart_stops_no_partition(settings: Settings, start_program: StartProgram) -> None:
    def start(name: str) -> Program:
        return start_program("botify.services.recommender", name, session_timeout_s=LONG_SESSION_S)

    def wait_for_more(requests: Requests) -> None:
        asked = {f"r{number}" for number in range(requests.asked + 2 * USERS)}
        eventually(lambda: asked <= answered(settings).keys())

    first = [start(f"first-{number}") for number in range(3)]
    with Requests(settings) as requests:
        wait_for_more(requests)
        begun = requests.asked
        for number, old in enumerate(first):
            assert old.stop() == 0
            wait_for_more(requests)
            new = start(f"second-{number}")
            eventually(partial(new.said, "ready"))
            wait_for_more(requests)
        end = requests.asked
    waits_ms: dict[int, float] = {}
    replies = answered(settings)
    for number in range(begun, end):
        reply = replies[f"r{number}"]
        partition = partition_of(reply.user, settings.partitions)
        waits_ms[partition] = max(waits_ms.get(partition, 0.0), reply.latency_ms)
    assert len(waits_ms) == settings.partitions
    assert max(waits_ms.values()) < STOPPED_MS, waits_ms
    assert not any(program.said("classic protocol") for program in first)
