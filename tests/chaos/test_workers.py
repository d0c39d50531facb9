"""Workers are killed, frozen, scaled and given copies and topics made anew: the state is the fold of the topics."""

import signal
import time
from collections.abc import Iterator, Mapping
from itertools import cycle

import numpy as np
from confluent_kafka.admin import AdminClient

from botify.core.kafka.config import common_config
from botify.core.kafka.headers import headers_of
from botify.core.settings import Settings
from botify.schemas.codec import Codec
from botify.schemas.dead_letters import origin_of
from botify.schemas.events import Listen
from botify.schemas.topics import TopicDefinition, Topics, create_topics
from botify.services.stack.embedded import EmbeddedStack
from botify.streams.store.keys import default_namespace
from botify.streams.verify import verify
from tests.chaos.conftest import PATIENT_S, TRACKS, StartWorker
from tests.chaos.load import Load, listens_for_ever
from tests.chaos.programs import Program
from tests.chaos.whole import CATCH_UP_S, assert_whole, caught_up
from tests.erasers import Erasers, left_out
from tests.hostile import hostile_batches, produce_batches
from tests.support import (
    Background,
    checkpoints,
    eventually,
    make_listens,
    offline_fold,
    produce,
    read_topic,
    redis_contents,
)

CODEC = Codec()
WORKERS = 2
USERS = 200
DEADLINE_S = 600.0
POINTS = ("before-apply", "after-apply", "during-claim")


def failpoints(seed: int) -> Iterator[str]:
    """Yield a plan for each worker that is started: all points in turn, each at an early or a late visit."""
    rng = np.random.default_rng(seed)
    while True:
        for point in POINTS:
            yield f"{point}:{rng.integers(1, 3 if point == 'during-claim' else 12)}"


PROGRESS_S = 120.0
"""A broker that starts again on a busy machine takes a while; while all is well this costs nothing."""


def progresses(settings: Settings, listens: int = 150) -> None:
    """Wait until so many more listens are applied in every partition."""
    before = checkpoints(settings)

    def further() -> bool:
        now = checkpoints(settings)
        return all(now.get(p, 0) > before.get(p, 0) + listens for p in range(settings.partitions))

    eventually(further, PROGRESS_S, lambda: f"{checkpoints(settings)}, from {before}")


def test_the_broker_restarts_under_load(settings: Settings, start_worker: StartWorker, stack: EmbeddedStack) -> None:
    workers = [start_worker("worker-1"), start_worker("worker-2")]
    eventually(lambda: all(worker.claimed for worker in workers))  # one that starts gives up after half a minute
    with Load(settings, listens_for_ever(300, TRACKS, seed=54), per_s=500) as load:
        progresses(settings)
        stack.kafka.stop()
        stack.kafka.start()
        progresses(settings)
        stack.kafka.kill()
        stack.kafka.start()
        progresses(settings)
    assert_whole(settings, load.sent)
    assert all(worker.running for worker in workers)  # they waited


def test_a_worker_that_wakes_too_late_is_fenced_and_changes_nothing(
    settings: Settings, start_worker: StartWorker, stack: EmbeddedStack
) -> None:
    # it stops itself with a folded batch in its hands: writing that is the first thing it does when it wakes
    zombie = start_worker("zombie", {"BOTIFY_FAILPOINTS": "before-apply:10:stop"})
    with Load(settings, listens_for_ever(300, TRACKS, seed=52), per_s=500) as load:
        eventually(lambda: zombie.stopped)
        heir = start_worker("heir")
        eventually(lambda: heir.claimed)
        progresses(settings)
        # however late Redis answers, the group cannot tell it before that its partitions are another's
        stack.kafka.pause()
        try:
            zombie.resume()
            # each of its two apps has a tenth apply, and stops there
            eventually(lambda: zombie.said("FENCED") or (zombie.stopped and zombie.resume()))
        finally:
            stack.kafka.resume()
    assert_whole(settings, load.sent)
    assert zombie.stop() == 0
    assert zombie.counter("fenced") >= 1
    assert heir.running


def test_a_frozen_worker_whose_partitions_nobody_took_goes_on(settings: Settings, start_worker: StartWorker) -> None:
    worker = start_worker("worker")
    with Load(settings, listens_for_ever(300, TRACKS, seed=53), per_s=500) as load:
        progresses(settings)
        worker.pause()
        caught = load.sent
        eventually(lambda: load.sent > caught + 2_000)  # two session timeouts
        worker.resume()
        progresses(settings)
    assert_whole(settings, load.sent)
    assert worker.running


LISTENS = 3_000
SHARE = 0.1
FURTHEST = 1_500
"""Listens between an event and its copy; with 100 listeners that is within the last 50 of each."""


def with_copies(listens: list[Listen], seed: int) -> list[Listen]:
    """Send a share of the events again, a little or much later."""
    rng = np.random.default_rng(seed)
    copied = rng.choice(len(listens), int(len(listens) * SHARE), replace=False)
    places = [(float(at), listen) for at, listen in enumerate(listens)]
    places += [(at + float(rng.uniform(0, FURTHEST)), listens[at]) for at in copied.tolist()]
    return [listen for _, listen in sorted(places, key=lambda place: place[0])]


def copies_from(settings: Settings, offsets: Mapping[int, int]) -> int:
    """Return how many records, from these offsets of the partitions on, are copies of an earlier one."""
    seen: set[str] = set()
    copies = 0
    for message in read_topic(settings, Topics.of(settings).listens.name):
        event_id = CODEC.decode(message.value(), Listen).event_id
        copies += event_id in seen and message.offset() >= offsets[message.partition()]
        seen.add(event_id)
    return copies


def test_copies_are_counted_once(settings: Settings, start_worker: StartWorker) -> None:
    sent = with_copies(make_listens(LISTENS, 100, TRACKS, seed=63), seed=64)
    first = start_worker("first", session_timeout_s=PATIENT_S)
    of_both = len(sent) * 2 // 3  # on a busy machine the first may fold all that is sent before it is told to stop
    with Load(settings, sent[:of_both], per_s=1_000) as load:
        progresses(settings, 250)
        assert first.stop() == 0
        second = start_worker("second", session_timeout_s=PATIENT_S)
        load.finish()
    with Load(settings, sent[of_both:], per_s=1_000) as load:
        load.finish()
    assert_whole(settings, LISTENS)
    assert second.stop() == 0
    # the first one was stopped under load: it may not have heard what came of its last applies
    all_copies, of_second = len(sent) - LISTENS, copies_from(settings, second.claimed_at())
    assert 0 < of_second < all_copies
    assert second.counter("duplicates") == of_second
    assert 0 < first.counter("duplicates") <= all_copies - of_second


def test_a_worker_that_runs_notices_a_topic_made_anew(settings: Settings, start_worker: StartWorker) -> None:
    topic = Topics.of(settings).listens.name
    produce(settings, topic, make_listens(1_000, 100, TRACKS, seed=61))
    worker = start_worker("worker")
    caught_up(settings)
    admin = AdminClient(common_config(settings))
    admin.delete_topics([topic])[topic].result(30)
    eventually(lambda: topic not in admin.list_topics(timeout=10).topics)
    create_topics(settings)
    produce(settings, topic, make_listens(5_000, 100, TRACKS, seed=62))
    eventually(lambda: not worker.running)
    assert worker.exit_status == 1
    again = start_worker("again")
    eventually(lambda: not again.running)
    assert again.said("was deleted and recreated")


HOSTILE, AT_ONCE, EVERY_S = 210, 10, 0.5


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
    plans, kills = failpoints(seed=9), dict.fromkeys(POINTS, 0)
    alive: list[tuple[Program, str]] = []
    give_up = time.monotonic() + DEADLINE_S
    with (
        Load(settings, listens_for_ever(USERS, TRACKS, seed=91), per_s=400) as load,
        Hostile(settings) as hostile,
        Erasers(settings) as erasers,
    ):
        while not all(kills.values()) or not erasers.erased:
            assert time.monotonic() < give_up, kills
            for worker, plan in [one for one in alive if not one[0].running]:
                assert worker.exit_status == -signal.SIGKILL, worker.log.read_text()[-3000:]
                kills[plan.partition(":")[0]] += 1
                alive.remove((worker, plan))
            while len(alive) < WORKERS:
                plan = next(plans)
                alive.append((start_worker(f"worker-{len(alive)}", {"BOTIFY_FAILPOINTS": plan}), plan))
            time.sleep(0.05)
        for worker, _ in alive:
            worker.kill()
        start_worker("last")
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
