"""Kills under load, with hostile records, opinions and erasures at the same time."""

from __future__ import annotations

import signal
import time
from itertools import cycle

from botify.core.kafka.headers import headers_of
from botify.core.settings import Settings
from botify.schemas.dead_letters import origin_of
from botify.schemas.topics import TopicDefinition, Topics
from botify.streams.store.keys import default_namespace
from botify.streams.verify import verify
from tests.chaos.conftest import TRACKS, StartWorker
from tests.chaos.load import Load, listens_for_ever
from tests.chaos.test_kill import POINTS, failpoints
from tests.chaos.whole import CATCH_UP_S, caught_up
from tests.erasers import Erasers, left_out
from tests.hostile import hostile_batches, produce_batches
from tests.support import Background, eventually, offline_fold, read_topic, redis_contents

KILLS = 6
WORKERS = 2
USERS = 200
HOSTILE, AT_ONCE, EVERY_S = 210, 10, 0.5
DEADLINE_S = 300.0


class Hostile(Background):
    """Sends records of every kind to listens and feedback, again and again."""

    def __init__(self, settings: Settings) -> None:
        topics = Topics.of(settings)
        super().__init__(*[lambda topic=topic: self._send(topic) for topic in (topics.listens, topics.feedback)])
        self._settings = settings
        self.sent = 0

    def _send(self, topic: TopicDefinition) -> None:
        batches = list(hostile_batches(topic, self._settings.partitions, TRACKS, HOSTILE, cut=False))
        for begin in cycle(range(0, len(batches), AT_ONCE)):
            self.sent += len(produce_batches(self._settings, topic.name, batches[begin : begin + AT_ONCE]))
            if self._over.wait(EVERY_S):
                return


def test_kills_erasures_hostile_records_and_opinions_together_leave_the_fold_of_the_topics(
    settings: Settings, start_worker: StartWorker
) -> None:
    plans, killed, alive = failpoints(seed=9), 0, []
    give_up = time.monotonic() + DEADLINE_S
    with (
        Load(settings, listens_for_ever(USERS, TRACKS, seed=91), per_s=400) as load,
        Hostile(settings) as hostile,
        Erasers(settings) as erasers,
    ):
        while killed < KILLS or not erasers.erased:
            assert time.monotonic() < give_up, f"{killed} of {KILLS} kills"
            for worker in [one for one in alive if not one.running]:
                assert worker.exit_status == -signal.SIGKILL, worker.log.read_text()[-3000:]
                killed += 1
                alive.remove(worker)
            while len(alive) < WORKERS:
                environment = {"BOTIFY_FAILPOINTS": next(plans)} if killed + len(alive) < KILLS else {}
                alive.append(start_worker(f"worker-{len(alive)}", environment))
            time.sleep(0.05)
    assert killed >= len(POINTS)
    assert min(load.sent, hostile.sent, len(erasers.erased)) > 0
    caught_up(settings)
    eventually(lambda: verify(settings).ok, CATCH_UP_S)  # of feedback, too
    without = left_out(settings, default_namespace(settings.topic_prefix))  # what was erased before the first claim
    assert redis_contents(settings) == offline_fold(settings, without=without).contents()
    rejected = {(one.record.partition, one.record.offset) for one in offline_fold(settings).rejected}
    topics = Topics.of(settings)
    origins = [origin_of(headers_of(letter)) for letter in read_topic(settings, topics.dead_letters.name)]
    assert len(rejected) > AT_ONCE
    assert rejected <= {(one.partition, one.offset) for one in origins if one and one.topic == topics.listens.name}
