"""A recommender asked through the pipeline: listens and requests over Kafka, state in Redis, each service a process.

    events ──listens──► worker ──► Redis ──────────────────┐
                           └─training─► learner ──models─► recommender ◄──requests── rank
                                                                └──recommendations──► lists

Each run has topics and state of its own, under a prefix that is removed at the end. The topics have one partition, so
models learn in the order of the log. Before a question, the run waits until the worker has folded all listens and the
recommender serves the snapshot of the last multiple of `Setup.refresh` listens: then nothing depends on time, and the
lists are those of `botify.evaluation.rankers.botify`.
"""

import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from confluent_kafka.admin import AdminClient
from prometheus_client.parser import text_string_to_metric_families

from botify.analytics.offline.off_policy import padded
from botify.core.kafka.admin import TIMEOUT_S
from botify.core.kafka.config import common_config, key_of
from botify.core.kafka.layout import declare_simulated
from botify.core.kafka.publisher import RecordPublisher
from botify.core.settings import Settings
from botify.evaluation import EvaluationError
from botify.evaluation.log import Events, Ints
from botify.evaluation.ranker import Setup
from botify.evaluation.rankers.botify import Listeners, note_of
from botify.evaluation.rankers.registry import check_served
from botify.schemas.catalogue import send_missing_tracks
from botify.schemas.events import Recommendation
from botify.schemas.registry import codec_of
from botify.schemas.topics import Topics, create_topics
from botify.services.recommender.registry import RECOMMENDERS
from botify.services.stack.ports import find_free
from botify.services.stack.record import Watchdog
from botify.services.stack.server import ChildProcess, tail
from botify.sim.loop.kafka import Replies
from botify.streams.read import StateReader
from botify.streams.store.connect import connect

PROGRAMS = ("botify.streams.worker", "botify.streams.learner", "botify.services.recommender")
PATIENCE_S = 120.0  # how long to wait for a state in which nothing changes any more
POLL_S = 0.005


class PipelineRanker:
    """One recommender behind topics of its own; a context manager that starts its processes and stops them.

    `settings` have Kafka and Redis, which may serve other deployments at the same time. Raises `EvaluationError` if the
    recommender needs lists, or a process fails.
    """

    def __init__(self, name: str, setup: Setup, settings: Settings) -> None:
        check_served(name)
        self.note = "; ".join(filter(None, (note_of(name, setup), "through Kafka: costs are those of the client")))
        self._name, self._setup = name, setup
        prefix = f"{settings.topic_prefix}-evaluation-{uuid.uuid4().hex[:12]}"
        alone = {"partitions": 1, "learner_shards": 1, "metrics_port": None, "training": "on"}
        self._settings = settings.with_(topic_prefix=prefix, snapshot_listens=setup.refresh, **alone)
        self._topics, self._codec = Topics.of(self._settings), codec_of(self._settings)
        self._models = RECOMMENDERS[name].models
        self._listeners = Listeners(setup)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Make the topics, publish the catalogue, and start the processes."""
        with ExitStack() as stack:
            stack.enter_context(_topics(self._settings))
            self._publisher = RecordPublisher(self._settings, linger_ms=1)
            send_missing_tracks(self._publisher, self._topics.catalogue.name, self._codec, self._setup.tracks, {})
            self._publisher.flush()
            self._replies = Replies(self._settings, self._codec)
            stack.callback(self._replies.close)
            redis = connect(self._settings)
            stack.callback(redis.close)
            self._state = StateReader(redis, self._settings)
            logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="botify-evaluation-")))
            own = self._settings.with_(home=logs, experiments=None, recommender=self._name)
            self._programs = {module: stack.enter_context(Program(module, own, logs)) for module in PROGRAMS}
            self._recommender = self._programs["botify.services.recommender"]
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def learn(self, events: Events) -> None:
        for listen in self._listeners.hear(events):
            value, key = self._codec.encode(listen), key_of(listen.user)
            self._publisher.send(self._topics.listens.name, value, key)

    def rank(self, users: Ints, times_ms: Ints, k: int) -> Ints:
        """Ask for each user's list once all that was published is served."""
        self._publisher.flush()
        self._wait(self._serves_all, "worker, learner and recommender have not come to the end of the listens")
        deadline_ms = int((time.time() + PATIENCE_S) * 1000)
        requests = {one.request_id: one for one in self._listeners.requests(users, times_ms, k, deadline_ms)}
        for request in requests.values():
            topic, key = self._topics.recommendation_requests.name, key_of(request.user)
            self._publisher.send(topic, self._codec.encode(request), key)
        self._publisher.flush()
        replies: dict[str, Recommendation] = {}

        def all_replied() -> bool:
            replies.update((one.request_id, one) for one in self._replies.receive(POLL_S, 0.0))
            return replies.keys() >= requests.keys()

        self._wait(all_replied, "the recommender has not answered all requests")
        rankings = [np.array(self._own(replies[id_]), dtype=np.int64) for id_ in requests]
        return self._listeners.new_to(users, padded(rankings), k)

    def _own(self, reply: Recommendation) -> list[int]:
        """Return the list of a reply, empty if the recommender had none and a fallback answered."""
        if reply.recommender == self._name:
            return list(reply.ranking or ())
        failures = self._recommender.metric("botify_recommender_failures_total", recommender=self._name)
        if failures:
            raise EvaluationError(
                f"{self._name} raised an error, and {reply.recommender} answered:\n{self._recommender.log()}"
            )
        return []

    def _serves_all(self) -> bool:
        """Return whether the state has all listens, and the recommender the snapshots that they call for."""
        listens = self._listeners.listens
        if listens and self._state.checkpoints().get(0, 0) < listens:
            return False
        version = listens // self._setup.refresh * self._setup.refresh
        return not version or all(
            self._recommender.metric("botify_recommender_model_version", model=model) == version
            for model in self._models
        )

    def _wait(self, condition: Callable[[], bool], problem: str) -> None:
        began_s = time.monotonic()
        while not condition():
            for program in self._programs.values():
                program.check()
            if time.monotonic() - began_s > PATIENCE_S:
                said = "\n".join(f"{module}: {program.log()}" for module, program in self._programs.items())
                raise EvaluationError(f"{problem} within {PATIENCE_S:.0f} s\n{said}")
            time.sleep(POLL_S)


class Program(ChildProcess):
    """A process of the pipeline with its metrics; a context manager that stops it."""

    def __init__(self, module: str, settings: Settings, logs: Path) -> None:
        port, self._guard = find_free(), Watchdog()
        self._url = f"http://{settings.metrics_host}:{port}/metrics"
        environment = {**settings.to_env(), "BOTIFY_METRICS_PORT": str(port)}
        command, log = [sys.executable, "-m", module], logs / f"{module}.log"
        super().__init__(module, command, log_path=log, watchdog=self._guard, env=environment)

    def __enter__(self) -> Self:
        self.spawn()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._guard.close()

    def check(self) -> None:
        """Raise `EvaluationError` if the process has ended."""
        if not self.running:
            raise EvaluationError(self.death_notice())

    def log(self) -> str:
        return tail(self.log_path)

    def metric(self, name: str, **labels: str) -> float | None:
        """Return a metric as it is now; None if it is absent, or the process does not answer yet."""
        with suppress(urllib.error.URLError, OSError):
            with urllib.request.urlopen(self._url, timeout=5) as response:  # noqa: S310 - our own address
                text = response.read().decode()
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    if sample.name == name and sample.labels.items() >= labels.items():
                        return sample.value
        return None


@contextmanager
def _topics(settings: Settings) -> Iterator[None]:
    create_topics(settings)
    declare_simulated(settings)  # a log may lie in the future, as those of a world do
    try:
        yield
    finally:
        names = [definition.name for definition in Topics.of(settings).all()]
        admin = AdminClient(common_config(settings))  # it must outlive the futures
        for removed in admin.delete_topics(names, operation_timeout=TIMEOUT_S).values():
            removed.result()
        redis: Any = connect(settings)
        for key in list(redis.scan_iter(match=f"*{{{settings.topic_prefix}*", count=10_000)):
            redis.delete(key)
        redis.close()
