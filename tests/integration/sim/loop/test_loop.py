"""The loop on a real Kafka, with a recommender that is good or bad at will."""

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from botify.core.kafka.admin import end_offsets
from botify.core.kafka.config import consumer_config, key_of, partition_of, producer_config
from botify.core.kafka.publisher import Record, RecordPublisher
from botify.core.settings import Settings
from botify.schemas.codec import Codec
from botify.schemas.events import Listen, Recommendation, RecommendationRequest
from botify.schemas.topics import Topics
from botify.sim.loop import RunResult, run_loop
from botify.sim.loop.kafka import APART_MS
from botify.sim.options import RunOptions
from botify.sim.world.model import World
from botify.sim.world.store import save_world
from tests.support import UNHURRIED_S, Background, eventually, read_topic
from tests.unit.sim import conftest as simulated

PATIENCE_S = 3.0
"""How long listeners wait for an answer where some get none: longer than a busy machine holds one up."""
small_world = simulated.small_world
Answer = Callable[[RecommendationRequest, int], list[Recommendation]]
Listens = list[tuple[int, Listen]]
"""(partition, listen), each partition in its order."""


def next_track(request: RecommendationRequest, attempt: int) -> list[Recommendation]:
    track = (request.track + 1) % 400
    how = "next", {"TEST": "T1"}, 0.5, 0, 1.0, request.timestamp_ms
    return [Recommendation(request.request_id, request.user, track, *how)]


class Recommender(Background):
    """Answers requests from a thread, as `answer` says."""

    def __init__(self, settings: Settings, answer: Answer) -> None:
        super().__init__(self._run)
        self.requests: list[RecommendationRequest] = []
        self._answer, self._topics, self._codec = answer, Topics.of(settings), Codec()
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
        attempts: Counter[str] = Counter()
        while not self._over.is_set():
            for message in self._consumer.consume(500, 0.005):
                assert message.error() is None
                request = self._codec.decode(message.value(), RecommendationRequest)
                self.requests.append(request)
                attempts[request.request_id] += 1
                for recommendation in self._answer(request, attempts[request.request_id]):
                    assert request.reply_partition is not None
                    self._producer.produce(
                        self._topics.recommendations.name,
                        key=key_of(recommendation.user),
                        value=self._codec.encode(recommendation),
                        partition=request.reply_partition,
                    )
            self._producer.poll(0)


class Simulator:
    """A small world, and the topics on which it is played."""

    def __init__(self, settings: Settings, world: World, stack: ExitStack) -> None:
        self.settings, self.world, self._stack = settings, world, stack

    def recommend(self, answer: Answer = next_track) -> list[RecommendationRequest]:
        """Answer requests until the test ends, and return a list that grows by them."""
        return self._stack.enter_context(Recommender(self.settings, answer)).requests

    def run(self, **options: Any) -> RunResult:
        return run_loop(self.settings, self.world, RunOptions(**options))

    def start(self, run_id: str, requests: list[RecommendationRequest], until: int) -> subprocess.Popen[str]:
        """Start the command, and wait until it has made a number of requests."""
        program = "from botify.services.cli import main; main()"
        directory = save_world(self.settings.home, self.world)
        run = [sys.executable, "-c", program, "sim", "--world", str(directory)]
        process = subprocess.Popen(  # noqa: S603 (our own command)
            [*run, "--set", "in_flight=40", "--set", f"run_id={run_id}"],
            env=os.environ | self.settings.to_env() | {"COLUMNS": "200"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        eventually(lambda: len(requests) >= until)
        return process

    def listens(self) -> Listens:
        codec, topic = Codec(), Topics.of(self.settings).listens.name
        return [(one.partition(), codec.decode(one.value(), Listen)) for one in read_topic(self.settings, topic)]


@pytest.fixture
def simulator(settings: Settings, small_world: World) -> Iterator[Simulator]:
    with ExitStack() as stack:
        yield Simulator(settings, small_world, stack)


def sessions_of(listens: Listens) -> dict[str, list[Listen]]:
    """Return the listens of each session in their order, which a topic keeps."""
    sessions = defaultdict(list)
    for _, listen in listens:
        sessions[listen.session_id].append(listen)
    return sessions


def test_every_listen_is_on_the_topic_once_whole_and_in_order(simulator: Simulator) -> None:
    requests = simulator.recommend()
    result = simulator.run(sessions=120, in_flight=30, seed=5, run_id="r", timeout_s=UNHURRIED_S)
    listens = simulator.listens()
    assert (result.sessions, result.listens) == (120, len(listens))
    assert (result.timed_out, result.dropped, result.unusable) == (0, 0, 0)
    assert result.recommendations == result.listens - 120 == len(requests)
    assert len({listen.event_id for _, listen in listens}) == len(listens)
    for partition, listen in listens:
        assert partition == partition_of(listen.user, simulator.settings.partitions)
    sessions = sessions_of(listens)
    assert len(sessions) == 120
    for session in sessions.values():
        assert [listen.position for listen in session] == list(range(len(session)))
        assert [listen.ended_session for listen in session] == [False] * (len(session) - 1) + [True]
        assert (session[0].recommender, session[0].fraction, session[0].latency_ms) == (None, 1.0, None)
        for before, after in pairwise(session):
            assert after.track == (before.track + 1) % 400
            assert (after.recommender, after.treatments, after.propensity) == ("next", {"TEST": "T1"}, 0.5)
            assert 0 < after.latency_ms < 60_000
            assert 0 < after.timestamp_ms - before.timestamp_ms < 30 * 60 * 1000
    assert result.latency.count == result.recommendations
    assert 0 < result.latency.percentile(50) <= result.latency.percentile(99)


def test_the_same_seed_gives_every_listener_the_same_listens(simulator: Simulator) -> None:
    simulator.recommend()
    for run_id in ("a", "b"):
        simulator.run(sessions=90, in_flight=25, seed=4, run_id=run_id, start_ms=10**12, timeout_s=UNHURRIED_S)
    runs: dict[str, dict[str, list[tuple[Any, ...]]]] = {"a": {}, "b": {}}
    for session_id, session in sessions_of(simulator.listens()).items():
        run_id, _, rest = session_id.partition("-")
        runs[run_id][rest] = [(one.track, one.fraction, one.timestamp_ms, one.ended_session) for one in session]
    assert runs["a"] == runs["b"]


def test_who_gets_no_answer_asks_once_more_by_its_id_then_goes_away_and_is_counted(simulator: Simulator) -> None:
    deaf = {3, 4, 5}

    def answer(request: RecommendationRequest, attempt: int) -> list[Recommendation]:
        missing = request.position == 2 and (attempt == 1 or request.user in deaf)
        return [] if missing else next_track(request, attempt)

    requests = simulator.recommend(answer)
    result = simulator.run(sessions=60, in_flight=60, timeout_s=PATIENCE_S)
    ids = [request.request_id for request in requests]
    assert result.retried == len(ids) - len(set(ids)) > len(deaf)
    assert (result.timed_out, result.sessions) == (3, 57)
    for session in sessions_of(simulator.listens()).values():
        assert session[-1].ended_session == (session[0].user not in deaf)


def test_the_next_run_begins_after_the_newest_listen(simulator: Simulator) -> None:
    simulator.recommend()
    simulator.run(sessions=10, run_id="a", start_ms=int(time.time() * 1000) + 365 * 24 * 60 * 60 * 1000)
    newest_ms = max(listen.timestamp_ms for _, listen in simulator.listens())
    simulator.run(sessions=10, run_id="b")
    second = [listen.timestamp_ms for _, listen in simulator.listens() if listen.session_id.startswith("b-")]
    assert min(second) > newest_ms + APART_MS - 1


def test_a_killed_run_loses_no_acknowledged_listen_and_the_next_goes_on_with_new_sessions(simulator: Simulator) -> None:
    """What the topic holds when the run is killed is a whole beginning of each session, and stays as it is."""
    requests = simulator.recommend()
    process = simulator.start("killed", requests, until=2000)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = simulator.listens()
    assert len(before) >= 2000
    asked = {request.request_id for request in requests}
    for session_id, session in sessions_of(before).items():
        assert [listen.position for listen in session] == list(range(len(session))), session_id
        # Whoever was answered had made every listen before: none of them is missing.
        assert {f"{session_id}-{position}" for position in range(len(session) - 1)} <= asked

    result = simulator.run(sessions=30, run_id="next", timeout_s=UNHURRIED_S)
    after = simulator.listens()
    for partition in range(simulator.settings.partitions):
        old = [listen for p, listen in before if p == partition]
        assert [listen for p, listen in after if p == partition][: len(old)] == old
    fresh = {session_id for session_id in sessions_of(after) if session_id not in sessions_of(before)}
    assert len(fresh) == result.sessions == 30
    assert all(session_id.startswith("next-") for session_id in fresh)


def test_an_interrupted_run_says_what_it_did_and_leaves_nothing_half_sent(simulator: Simulator) -> None:
    process = simulator.start("interrupted", simulator.recommend(), until=500)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    listens = simulator.listens()
    assert re.search(rf"│ listens +│ +{len(listens):,} │", output), output
    for session in sessions_of(listens).values():
        assert [listen.position for listen in session] == list(range(len(session)))


def test_ctrl_c_between_sending_and_counting_waits_for_the_step(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator.recommend()
    send, sent = RecordPublisher.send_batch, 0

    def interrupted(publisher: RecordPublisher, topic: str, records: list[Record]) -> None:
        nonlocal sent
        send(publisher, topic, records)
        if topic.endswith(".listens"):
            sent += len(records)
            if sent > 150:
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(RecordPublisher, "send_batch", interrupted)
    assert 100 < simulator.run(in_flight=20).listens == len(simulator.listens())
