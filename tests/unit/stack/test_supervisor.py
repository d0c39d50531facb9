from pathlib import Path

import pytest

from services.stack.errors import ChildDiedError
from services.stack.supervisor import Supervisor


class FakeChild:
    name = "worker-1"
    log_path = Path("nowhere.log")

    def __init__(self):
        self.running = False
        self.spawned = 0

    def spawn(self):
        self.running = True
        self.spawned += 1

    def death_notice(self):
        return "worker-1 ended with status 1"


class Clock:
    now_s = 0.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def child():
    return FakeChild()


@pytest.fixture
def clock():
    return Clock()


def test_a_crashed_child_is_started_after_the_delay_and_not_before(child, clock):
    changes = []
    supervisor = Supervisor([child], clock=clock, changed=lambda: changes.append(clock.now_s))
    supervisor.start()
    child.running = False
    for clock.now_s in (10.0, 10.4):
        supervisor.check()
    assert child.spawned == 1
    clock.now_s = 10.5
    supervisor.check()
    assert child.spawned == 2
    assert changes == [0.0, 10.5]


def test_a_running_child_is_left_alone(child, clock):
    supervisor = Supervisor([child], clock=clock)
    supervisor.start()
    supervisor.check()
    assert child.spawned == 1


def test_a_child_that_crashes_again_and_again_ends_it(child, clock):
    told = []
    supervisor = Supervisor([child], restart_limit=2, clock=clock, notify=told.append)
    supervisor.start()
    for _ in range(4):  # planned and started, twice
        child.running = False
        clock.now_s += 1.0
        supervisor.check()
    child.running = False
    with pytest.raises(ChildDiedError, match=r"worker-1 ended with status 1\n.*restarted 2 times"):
        supervisor.check()
    assert child.spawned == 3
    assert len(told) == 2
