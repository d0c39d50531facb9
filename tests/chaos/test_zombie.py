"""A worker that was frozen past its session timeout wakes up and still believes in its partitions."""

from __future__ import annotations

from schemas.settings import Settings
from tests.chaos.conftest import TRACKS, StartWorker
from tests.chaos.load import Load
from tests.chaos.whole import assert_whole, caught_up
from tests.support import eventually, make_listens


def test_a_worker_that_wakes_too_late_is_fenced_and_changes_nothing(
    settings: Settings, start_worker: StartWorker
) -> None:
    zombie = start_worker("zombie")
    eventually(lambda: zombie.said("claimed partitions"))
    with Load(settings, make_listens(60_000, 300, TRACKS, seed=52), per_s=2_000) as load:
        eventually(lambda: load.sent > 2_000)
        zombie.pause()  # under load: with records fetched and not applied
        heir = start_worker("heir")
        eventually(lambda: heir.said("claimed partitions"))
        caught = load.sent
        eventually(lambda: load.sent > caught + 2_000)
        zombie.resume()
        eventually(lambda: zombie.said("FENCED"), what=lambda: zombie.log.read_text()[-2000:])
    caught_up(settings)
    assert zombie.stop() == 0
    assert zombie.counter("fenced") >= 1
    assert_whole(settings, load.sent)
    assert heir.running


def test_a_frozen_worker_whose_partitions_nobody_took_goes_on(settings: Settings, start_worker: StartWorker) -> None:
    worker = start_worker("worker")
    eventually(lambda: worker.said("claimed partitions"))
    with Load(settings, make_listens(20_000, 300, TRACKS, seed=53), per_s=2_000) as load:
        eventually(lambda: load.sent > 1_000)
        worker.pause()
        caught = load.sent
        eventually(lambda: load.sent > caught + 8_000)
        worker.resume()
    assert_whole(settings, load.sent)
    assert worker.running
