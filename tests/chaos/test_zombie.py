"""A worker that was frozen past its session timeout wakes up and still believes in its partitions."""

from __future__ import annotations

from botify.core.settings import Settings
from botify.services.stack.embedded import EmbeddedStack
from tests.chaos.conftest import TRACKS, StartWorker
from tests.chaos.load import Load, listens_for_ever
from tests.chaos.test_scaling import progresses
from tests.chaos.whole import assert_whole
from tests.support import eventually


def test_a_worker_that_wakes_too_late_is_fenced_and_changes_nothing(
    settings: Settings, start_worker: StartWorker, stack: EmbeddedStack
) -> None:
    # it stops itself with a folded batch in its hands: writing that is the first thing it does when it wakes
    zombie = start_worker("zombie", {"BOTIFY_FAILPOINTS": "before-apply:10:stop"})
    with Load(settings, listens_for_ever(300, TRACKS, seed=52), per_s=2_000) as load:
        eventually(lambda: zombie.stopped)
        heir = start_worker("heir")
        eventually(lambda: heir.claimed)
        progresses(settings)
        # however late Redis answers, the group cannot tell it before that its partitions are another's
        stack.kafka.pause()
        try:
            zombie.resume()
            eventually(lambda: zombie.said("FENCED"), what=lambda: zombie.log.read_text()[-2000:])
        finally:
            stack.kafka.resume()
    assert_whole(settings, load.sent)
    assert zombie.stop() == 0
    assert zombie.counter("fenced") >= 1
    assert heir.running


def test_a_frozen_worker_whose_partitions_nobody_took_goes_on(settings: Settings, start_worker: StartWorker) -> None:
    worker = start_worker("worker")
    with Load(settings, listens_for_ever(300, TRACKS, seed=53), per_s=2_000) as load:
        progresses(settings)
        worker.pause()
        caught = load.sent
        eventually(lambda: load.sent > caught + 8_000)  # two session timeouts
        worker.resume()
        progresses(settings)
    assert_whole(settings, load.sent)
    assert worker.running
