"""SIGKILL for learners, at the worst points and at random moments, while workers that die send batches twice."""

import itertools
import signal
import time

import numpy as np

from botify.core.settings import Settings
from tests.chaos.conftest import TRACKS, StartProgram, StartWorker
from tests.chaos.load import Load, listens_for_ever
from tests.learning import all_learned, assert_learned
from tests.support import eventually

LEARNERS = 2
"""One learns, one stands by."""
USERS = 200
DEADLINE_S = 400.0
CATCH_UP_S = 120.0
AT_RANDOM = "at-random"
POINTS = ("before-apply", "after-apply", "during-claim", AT_RANDOM)


class Doomed:
    """A learner that is going to be killed once it has the partition."""

    def __init__(self, start_program: StartProgram, name: str, point: str, visit: int, delay_s: float) -> None:
        env = {} if point == AT_RANDOM else {"BOTIFY_FAILPOINTS": f"{point}:{visit}"}
        self.program = start_program("tests.chaos.hasty_learner", name, env)
        self.point = point
        self._delay_s = delay_s
        self._kill_at_s: float | None = None

    def is_dead(self) -> bool:
        """Say whether it is; kill it, where it is time for that."""
        if self.point == AT_RANDOM and self._kill_at_s is None and self.program.said("offsets {0: "):
            self._kill_at_s = time.monotonic() + self._delay_s
        if self._kill_at_s is not None and time.monotonic() >= self._kill_at_s:
            self.program.kill()
        return not self.program.running


def test_kills_at_each_point_under_load_leave_the_models_of_an_undisturbed_fold(
    settings: Settings, start_program: StartProgram, start_worker: StartWorker
) -> None:
    rng, numbers = np.random.default_rng(8), itertools.count()

    def start_learner(point: str) -> Doomed:
        visit, delay_s = int(rng.integers(1, 2 if point == "during-claim" else 6)), float(rng.uniform(0.1, 2.0))
        return Doomed(start_program, f"learner-{next(numbers)}", point, visit, delay_s)

    points, kills = itertools.cycle(POINTS), dict.fromkeys(POINTS, 0)
    alive: list[Doomed] = []
    worker = mortal = start_worker("mortal", {"BOTIFY_FAILPOINTS": "before-apply:40"})
    give_up = time.monotonic() + DEADLINE_S
    with Load(settings, listens_for_ever(USERS, TRACKS, seed=81), per_s=500) as load:
        while not all(kills.values()):
            assert time.monotonic() < give_up, kills
            for learner in [one for one in alive if one.is_dead()]:
                status = learner.program.exit_status
                assert status == -signal.SIGKILL, learner.program.log.read_text()[-3000:]
                kills[learner.point] += 1
                alive.remove(learner)
            while len(alive) < LEARNERS:
                alive.append(start_learner(next(points)))
            if not worker.running:  # it died behind what it has sent, so the next one sends it again
                worker = start_worker("heir")
            time.sleep(0.05)
        for learner in alive:
            learner.program.kill()
        start_learner(AT_RANDOM)  # it lives: nobody asks any more whether it is time
    eventually(lambda: all_learned(settings), CATCH_UP_S, "learning from all")
    assert mortal.exit_status == -signal.SIGKILL, mortal.log.read_text()[-3000:]
    learned = assert_learned(settings).learner
    assert (learned.listens, learned.missed) == (load.sent + load.impressions, 0)
