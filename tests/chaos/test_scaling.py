"""Workers come and go, and the broker does, while listens keep coming."""

from __future__ import annotations

from botify.core.settings import Settings
from botify.services.stack.embedded import EmbeddedStack
from tests.chaos.conftest import TRACKS, StartWorker
from tests.chaos.load import Load, listens_for_ever
from tests.chaos.whole import assert_whole
from tests.support import checkpoints, eventually

PROGRESS_S = 120.0
"""A broker that starts again on a busy machine takes a while; while all is well this costs nothing."""


def progresses(settings: Settings, listens: int = 400) -> None:
    """Wait until so many more listens are applied in every partition."""
    before = checkpoints(settings)

    def further() -> bool:
        now = checkpoints(settings)
        return all(now.get(p, 0) > before.get(p, 0) + listens for p in range(settings.partitions))

    eventually(further, PROGRESS_S, lambda: f"{checkpoints(settings)}, from {before}")


def test_workers_from_one_to_three_and_back(settings: Settings, start_worker: StartWorker) -> None:
    first = start_worker("worker-1")
    with Load(settings, listens_for_ever(300, TRACKS, seed=53), per_s=2_000) as load:
        progresses(settings)
        others = [start_worker("worker-2"), start_worker("worker-3")]
        for worker in others:
            eventually(lambda worker=worker: worker.claimed)
        progresses(settings)
        assert first.stop() == 0  # politely
        progresses(settings)
        others[0].kill()  # and not
        progresses(settings)
    assert_whole(settings, load.sent)
    assert others[1].running


def test_the_broker_restarts_under_load(settings: Settings, start_worker: StartWorker, stack: EmbeddedStack) -> None:
    workers = [start_worker("worker-1"), start_worker("worker-2")]
    with Load(settings, listens_for_ever(300, TRACKS, seed=54), per_s=2_000) as load:
        progresses(settings)
        stack.kafka.stop()
        stack.kafka.start()
        progresses(settings)
        stack.kafka.kill()
        stack.kafka.start()
        progresses(settings)
    assert_whole(settings, load.sent)
    assert all(worker.running for worker in workers)  # they waited
