import errno
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botify.services.errors import ChildDiedError
from botify.services.stack.supervisor import LIMIT, MAX_DELAY_S, WINDOW_S, Restarts, Supervisor


class FakeChild:
    log_path = Path("nowhere.log")
    exit_status = 1
    why_not = None

    def __init__(self, name="worker-1"):
        self.name = name
        self.running = False
        self.spawned = 0

    def obstacle(self):
        return self.why_not

    def stop(self):
        self.running = False

    def spawn(self):
        self.running = True
        self.spawned += 1

    def death_notice(self):
        return f"{self.name} ended with status 1"


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


def test_a_child_with_an_obstacle_is_stopped_and_started_when_it_is_gone(child, clock):
    told = []
    supervisor = Supervisor([child], restart_limit=1, clock=clock, notify=told.append)
    supervisor.start()
    for times in (1, 2, 3):  # more often than it may crash
        child.why_not = "the disk is full"
        for clock.now_s in (10.0 * times, 10.0 * times + 5.0):
            supervisor.check()
            assert not child.running
        child.why_not = None
        supervisor.check()
        assert child.running
        assert (child.spawned, supervisor.restarted["worker-1"]) == (1 + times, times)
    assert told == ["worker-1 is stopped: the disk is full", "worker-1 is started again"] * 3


def test_a_child_that_a_full_disk_ended_waits_for_space_and_its_end_is_no_crash(child, clock):
    supervisor = Supervisor([child], restart_limit=0, clock=clock)
    supervisor.start()
    child.running, child.why_not = False, "the disk is full"
    supervisor.check()
    assert child.spawned == 1
    child.why_not = None
    supervisor.check()
    assert child.spawned == 2


def test_what_ends_while_a_server_waits_is_started_after_it(child, clock):
    server = FakeChild("kafka")
    supervisor = Supervisor([server], [child], restart_limit=1, clock=clock)
    supervisor.start()
    server.why_not = "the disk is full"
    crash(supervisor, child, clock, 3)
    assert (child.spawned, supervisor.given_up) == (1, {})
    server.why_not = None
    for _ in range(3):
        clock.now_s += 1.0
        supervisor.check()
    assert (server.spawned, child.spawned) == (2, 2)


def test_a_full_disk_ends_neither_the_checks_nor_the_record_of_what_changed(child, clock):
    full, recorded = [True], []

    def write(_=None):
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")
        recorded.append(child.spawned)

    supervisor = Supervisor([child], clock=clock, changed=write, notify=write)
    supervisor.start()
    crash(supervisor, child, clock, 1)
    full.clear()
    supervisor.check()
    supervisor.check()
    assert recorded == [2]


def test_a_running_child_is_left_alone(child, clock):
    supervisor = Supervisor([child], clock=clock)
    supervisor.start()
    supervisor.check()
    assert child.spawned == 1


def crash(supervisor, child, clock, times):
    """End the child so many times; after each, one check schedules the restart and one starts it."""
    for _ in range(times):
        child.running = False
        for _ in range(2):
            clock.now_s += 1.0
            supervisor.check()


def test_a_server_that_crashes_too_often_ends_everything(child, clock):
    told = []
    supervisor = Supervisor([child], restart_limit=2, clock=clock, notify=told.append)
    supervisor.start()
    with pytest.raises(ChildDiedError, match=r"worker-1 ended with status 1\n.*restarted 2 times"):
        crash(supervisor, child, clock, 3)
    assert child.spawned == 3
    assert len(told) == 2


def test_a_program_that_crashes_too_often_stays_stopped_and_the_others_run(child, clock):
    server, told, changes = FakeChild("kafka"), [], []
    supervisor = Supervisor(
        [server],
        [child],
        restart_limit=2,
        clock=clock,
        notify=told.append,
        changed=lambda: changes.append(dict(supervisor.given_up)),
    )
    supervisor.start()
    crash(supervisor, child, clock, 4)
    clock.now_s += 3600.0
    supervisor.check()
    assert (child.spawned, child.running, server.running) == (3, False, True)
    assert "stays stopped; everything else keeps running" in told[-1]
    assert len(told) == 3
    assert changes[-1].keys() == {"worker-1"}
    assert supervisor.restarted == {"worker-1": 2}
    assert "status 1" in changes[-1]["worker-1"]
    crash(supervisor, server, clock, 1)
    assert server.spawned == 2


def test_a_burst_waits_longer_each_time_and_then_gives_up():
    restarts = Restarts(limit=3)
    assert [restarts.update(float(now)) for now in range(4)] == [0.5, 1.0, 2.0, None]


def test_a_crash_a_minute_later_starts_from_the_first_delay():
    restarts = Restarts(limit=1)
    assert restarts.update(0.0) == 0.5
    assert restarts.update(WINDOW_S) == 0.5


@given(st.lists(st.floats(0, 100), max_size=200))
def test_no_minute_has_more_restarts_than_the_limit(gaps_s):
    restarts, now_s, allowed_s = Restarts(), 0.0, []
    for gap_s in gaps_s:
        now_s += gap_s
        delay_s = restarts.update(now_s)
        if delay_s is not None:
            assert 0 < delay_s <= MAX_DELAY_S
            allowed_s.append(now_s)
        assert sum(now_s - WINDOW_S < at_s <= now_s for at_s in allowed_s) <= LIMIT
