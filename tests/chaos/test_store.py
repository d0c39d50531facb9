"""Redis dies, goes back in time, and forgets everything."""

import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from botify.core.kafka.admin import describe_topic
from botify.core.settings import Settings
from botify.schemas.events import OPINION_KINDS, Feedback
from botify.schemas.topics import Topics, worker_group_of
from botify.services.stack.embedded import EmbeddedStack
from botify.services.stack.ports import find_free
from botify.streams.store.connect import connect
from botify.streams.store.keys import checkpoint_key, default_namespace, feedback_of
from tests.chaos.conftest import PATIENT_S, TRACKS, StartProgram, StartWorker
from tests.chaos.load import Load, listens_for_ever
from tests.chaos.test_workers import progresses
from tests.chaos.whole import assert_whole, caught_up
from tests.integration.core.scraping import get, is_ready, samples
from tests.integration.services.gateway.conftest import StartGateway, ready
from tests.learning import all_learned, assert_learned
from tests.support import eventually, make_listens, opinions_in_redis, opinions_of, produce, redis_contents

CUT_OFF = 10
"""Bytes: less than any write, so the last one is lost."""


def write_through(settings: Settings) -> None:
    """Wait until all that was written so far is in Valkey's file: on a busy disk that takes seconds."""
    with closing(connect(settings)) as redis:
        redis.set("written-through", "yes")
        eventually(lambda: redis.execute_command("WAITAOF", 1, 0, 1_000)[0] == 1)


def test_valkey_is_killed_under_load(settings: Settings, start_worker: StartWorker, stack: EmbeddedStack) -> None:
    workers = [start_worker("worker-1"), start_worker("worker-2")]
    with Load(settings, listens_for_ever(300, TRACKS, seed=56), per_s=500) as load:
        progresses(settings)
        eventually(lambda: feedback_begun(settings))
        write_through(settings)
        progresses(settings)
        stack.valkey.kill()
        stack.valkey.start()
        progresses(settings)
    assert_whole(settings, load.sent)
    assert all(worker.running for worker in workers)  # they waited


@contextmanager
def out_of_memory(settings: Settings) -> Iterator[None]:
    with closing(connect(settings)) as redis:
        redis.config_set("maxmemory", 1)
        try:
            yield
        finally:
            redis.config_set("maxmemory", 0)


def test_valkey_is_out_of_memory_under_load(
    settings: Settings, start_program: StartProgram, start_worker: StartWorker, gateway: StartGateway
) -> None:
    """Invariant: everybody says so and waits, nothing is lost, and state and models are the folds of their topics."""
    ports = [settings.with_(metrics_port=find_free()) for _ in range(2)]
    worker = start_worker("worker", metrics_port=ports[0].metrics_port)
    learner = start_program("botify.streams.learner", "learner", metrics_port=ports[1].metrics_port)
    client = gateway()

    def refused() -> bool:
        probes = [get(each, "/readyz") for each in ports]
        answer = client.get("/readyz")
        probes.append((answer.status_code, answer.text))
        return all(status == 503 and "out of memory" in text for status, text in probes)

    with Load(settings, listens_for_ever(300, TRACKS, seed=59), per_s=500) as load:
        progresses(settings)
        eventually(lambda: all(map(is_ready, ports)) and ready(client))
        with out_of_memory(settings):
            eventually(refused)
            told = [samples(each) for each in ports]
            answer = client.post("/next/1", json={"track": 7, "time": 0.5})
            assert (answer.status_code, "out of memory" in answer.json()["detail"]) == (503, True)
        progresses(settings)
        eventually(lambda: all(map(is_ready, ports)) and ready(client))
    assert_whole(settings, load.sent)
    eventually(lambda: all_learned(settings))
    assert_learned(settings)
    assert told[0]["botify_worker_store_writable"] == told[1]["botify_learner_store_writable"] == 0
    assert told[0]["botify_worker_refused_writes_total"] > 0
    assert worker.said("Redis accepts writes again")
    assert not any(program.said("Crashed") for program in (worker, learner))


class AppendOnlyFiles:
    """Where Valkey keeps everything: to be copied, and put back later."""

    def __init__(self, stack: EmbeddedStack, copy: Path) -> None:
        self._settings = stack.settings
        self._valkey = stack.valkey
        self._live = stack.home / "valkey" / "appendonlydir"
        self._copy = copy

    def copy(self) -> None:
        """Copy the files as of one moment, but for the last bytes, as a crash may cut them off."""
        write_through(self._settings)
        self._valkey.pause()  # or it might begin new files in the meantime
        shutil.copytree(self._live, self._copy)
        self._valkey.resume()
        newest = max(self._copy.glob("*.incr.aof"), key=lambda path: int(path.suffixes[-3][1:]))
        os.truncate(newest, newest.stat().st_size - CUT_OFF)

    def put_back(self) -> None:
        self._valkey.kill()
        shutil.rmtree(self._live)
        shutil.copytree(self._copy, self._live)
        self._valkey.start()


def owners(settings: Settings) -> set[str]:
    keys = [checkpoint_key(default_namespace(settings.topic_prefix), p) for p in range(settings.partitions)]
    with closing(connect(settings)) as redis:
        return {owner.decode() for key in keys if (owner := redis.hget(key, "owner"))}


def feedback_begun(settings: Settings) -> bool:
    """Say whether each partition of the feedback has a checkpoint; see `write_through`."""
    namespace = feedback_of(default_namespace(settings.topic_prefix))
    with closing(connect(settings)) as redis:
        return all(redis.hexists(checkpoint_key(namespace, p), "next_offset") for p in range(settings.partitions))


@pytest.mark.parametrize(
    ("workers_before", "outcome"),
    [pytest.param(2, "ROLLED_BACK", id="the same claims"), pytest.param(1, "FENCED", id="former claims")],
)
def test_a_store_that_goes_back_is_noticed(
    settings: Settings, start_worker: StartWorker, stack: EmbeddedStack, workers_before: int, outcome: str
) -> None:
    files, names = AppendOnlyFiles(stack, settings.home / "older"), ("worker-1", "worker-2")
    workers = [start_worker(name, session_timeout_s=PATIENT_S) for name in names[:workers_before]]
    with Load(settings, listens_for_ever(300, TRACKS, seed=57), per_s=500) as load:
        eventually(lambda: len(owners(settings)) == workers_before)  # a worker that joins later makes all claim again
        progresses(settings)
        eventually(lambda: feedback_begun(settings))
        files.copy()
        workers += [start_worker(name, session_timeout_s=PATIENT_S) for name in names[workers_before:]]
        eventually(lambda: len(owners(settings)) == 2)
        progresses(settings)
        files.put_back()
        eventually(lambda: any(worker.said(outcome) for worker in workers))
        progresses(settings)
    assert_whole(settings, load.sent)
    assert all(worker.running for worker in workers)
    assert all(worker.stop() == 0 for worker in workers)
    assert sum(worker.counter(outcome.lower()) for worker in workers) >= 1


def test_an_emptied_redis_is_refused_and_rebuilt_where_the_operator_says_so(
    settings: Settings, start_worker: StartWorker
) -> None:
    topic = Topics.of(settings).listens.name
    listens = make_listens(2_500, 300, TRACKS, seed=58)
    produce(settings, topic, listens[:2_000])
    said = [Feedback(f"said-{at}", at % 300, at % TRACKS, OPINION_KINDS[at % 3], at) for at in range(1_000)]
    produce(settings, Topics.of(settings).feedback.name, said)
    worker = start_worker("worker")
    caught_up(settings)
    eventually(lambda: sum(describe_topic(settings, topic, worker_group_of(settings)).committed.values()) == 2_000)
    eventually(lambda: opinions_in_redis(settings) == opinions_of(said))
    connect(settings).flushall()
    produce(settings, topic, listens[2_000:])
    eventually(lambda: not worker.running)
    assert worker.exit_status == 1
    assert worker.said("has no state in Redis, though it had been folded up to offset")
    assert worker.said("BOTIFY_ON_MISSING_STATE=rebuild")
    assert redis_contents(settings) == {}
    again = start_worker("again")
    eventually(lambda: not again.running)
    assert again.exit_status == 1
    assert redis_contents(settings) == {}
    start_worker("rebuilding", on_missing_state="rebuild")
    assert_whole(settings, len(listens))
    assert opinions_in_redis(settings) == opinions_of(said)
