"""SIGKILL, at the points where it hurts most, again and again under load."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import numpy as np

from botify.core.settings import Settings
from tests.chaos.conftest import TRACKS, StartWorker
from tests.chaos.load import Load, listens_for_ever
from tests.chaos.programs import Program
from tests.chaos.whole import assert_whole

KILLS = 15
WORKERS = 3
USERS = 200
DEADLINE_S = 600.0
POINTS = ("before-apply", "after-apply", "during-claim")


def failpoints(seed: int) -> Iterator[str]:
    """Yield a plan for each worker that is started: all points in turn, each at an early or a late visit."""
    rng = np.random.default_rng(seed)
    while True:
        for point in POINTS:
            yield f"{point}:{rng.integers(1, 3 if point == 'during-claim' else 12)}"


def test_kills_at_each_point_under_load_leave_the_fold_of_the_topic(
    settings: Settings, start_worker: StartWorker
) -> None:
    plans = failpoints(seed=5)
    kills = dict.fromkeys(POINTS, 0)
    alive: list[tuple[Program, str]] = []
    give_up = time.monotonic() + DEADLINE_S
    with Load(settings, listens_for_ever(USERS, TRACKS, seed=51), per_s=600) as load:
        while (killed := sum(kills.values())) < KILLS:
            assert time.monotonic() < give_up, f"{killed} of {KILLS} kills: {kills}"
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
    assert min(kills.values()) >= KILLS // 5, kills
    assert_whole(settings, load.sent)
