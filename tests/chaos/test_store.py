"""Redis dies, goes back in time, and forgets everything."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from schemas.settings import Settings
from schemas.topics import Topics
from services.stack.embedded import EmbeddedStack
from streams.store.connect import connect
from streams.worker.broker import describe_topic
from tests.chaos.conftest import TRACKS, StartWorker
from tests.chaos.load import Load
from tests.chaos.test_scaling import progresses
from tests.chaos.whole import assert_whole, caught_up
from tests.support import eventually, make_listens, produce, redis_contents


@pytest.fixture
def append_only_files(stack: EmbeddedStack) -> Path:
    return stack.home / "valkey" / "appendonlydir"


def test_valkey_is_killed_under_load(settings: Settings, start_worker: StartWorker, stack: EmbeddedStack) -> None:
    workers = [start_worker("worker-1"), start_worker("worker-2")]
    with Load(settings, make_listens(150_000, 300, TRACKS, seed=56), per_s=2_000) as load:
        for _ in range(3):
            progresses(settings)
            stack.valkey.kill()
            stack.valkey.start()
        progresses(settings)
    assert_whole(settings, load.sent)
    assert all(worker.running for worker in workers)  # they waited


def test_valkey_goes_back_to_an_older_append_only_file(
    settings: Settings, start_worker: StartWorker, stack: EmbeddedStack, append_only_files: Path, tmp_path: Path
) -> None:
    workers = [start_worker("worker-1"), start_worker("worker-2")]
    with Load(settings, make_listens(150_000, 300, TRACKS, seed=57), per_s=2_000) as load:
        progresses(settings)
        shutil.copytree(append_only_files, tmp_path / "older")  # while it is written: the end may be cut off
        progresses(settings)
        stack.valkey.kill()
        shutil.rmtree(append_only_files)
        shutil.copytree(tmp_path / "older", append_only_files)
        stack.valkey.start()
        eventually(lambda: any(worker.said("ROLLED_BACK") for worker in workers))
        progresses(settings)
    assert_whole(settings, load.sent)
    assert all(worker.running for worker in workers)
    assert all(worker.stop() == 0 for worker in workers)
    assert sum(worker.counter("rolled_back") for worker in workers) >= 1


def test_an_emptied_redis_is_refused_and_rebuilt_where_the_operator_says_so(
    settings: Settings, start_worker: StartWorker
) -> None:
    topic = Topics.of(settings).listens.name
    listens = make_listens(10_000, 300, TRACKS, seed=58)
    produce(settings, topic, listens[:8_000])
    worker = start_worker("worker")
    caught_up(settings)
    eventually(lambda: sum(describe_topic(settings, topic).committed.values()) == 8_000)
    connect(settings).flushall()
    produce(settings, topic, listens[8_000:])
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
