import errno
import shutil
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botify.services.errors import ChildDiedError, StackError
from botify.services.gateway import NO_CATALOGUE
from botify.services.stack import run, server
from botify.services.stack.embedded import take_lock
from botify.services.stack.ports import find_free
from botify.services.stack.record import Watchdog
from botify.services.stack.run import start_in_background, wait_for_gateway
from botify.services.stack.server import ChildProcess, bound
from botify.services.stack.supervisor import LIMIT, MAX_DELAY_S, WINDOW_S, Restarts, Supervisor
from tests.support import Clock


class FakeChild:
    log_path = Path("nowhere.log")
    exit_status = 1
    why_not = None

    def __init__(self, name="worker-1"):
        self.name, self.running, self.spawned = name, False, 0

    def obstacle(self):
        return self.why_not

    def stop(self):
        self.running = False

    def spawn(self):
        self.running = True
        self.spawned += 1

    def death_notice(self):
        return f"{self.name} ended with status 1"


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
    for clock.now_s, spawned in ((10.0, 1), (10.4, 1), (10.5, 2)):
        supervisor.check()
        assert child.spawned == spawned
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_while_a_child_starts_leaves_none_behind(number, tmp_path, monkeypatch):
    popen = subprocess.Popen

    def interrupted(*args, **options):
        started = popen(*args, **options)
        signal.raise_signal(number)  # it runs, and its owner has not got it yet
        return started

    monkeypatch.setattr(server.subprocess, "Popen", interrupted)
    monkeypatch.setattr(Watchdog, "watch", lambda *_: None)
    before = signal.signal(number, signal.default_int_handler)
    child = ChildProcess("sleeper", [sys.executable, "-c", "input()"], log_path=tmp_path / "log", watchdog=Watchdog())
    try:
        with pytest.raises(KeyboardInterrupt):
            child.spawn()
        assert signal.getsignal(number) is signal.default_int_handler
        assert child.identity is not None
        child.stop()
        assert not child.running
    finally:
        signal.signal(number, before)


def test_a_big_log_is_moved_aside_and_the_writer_goes_on_at_the_start(tmp_path):
    log = tmp_path / "kafka.log"
    with log.open("a") as writer:
        writer.write("x" * 200)
        writer.flush()
        bound(log, max_bytes=100)
        writer.write("after")
    assert log.read_text() == "after"
    assert (tmp_path / "kafka.log.1").read_text() == "x" * 200


def test_a_second_stack_leaves_the_log_of_the_first_alone(tmp_path):
    log = tmp_path / "logs" / "stack.log"
    log.parent.mkdir()
    log.write_text("of the first")
    with take_lock(tmp_path), pytest.raises(StackError, match="a stack already runs in"):
        start_in_background(tmp_path, [sys.executable, "-c", "print('of the second')"])
    assert log.read_text() == "of the first"


def test_nothing_is_started_on_a_full_disk(tmp_path, monkeypatch):
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100 << 20))
    with pytest.raises(StackError, match=r"has 100 MB free: Kafka stops below 256 MB and starts with 512 MB"):
        start_in_background(tmp_path, [sys.executable, "-c", "print('started')"])
    assert not (tmp_path / "logs").exists()


def test_a_gateway_is_waited_for_until_it_is_ready(monkeypatch):
    answers = [["starting"], ["Kafka is not reachable", NO_CATALOGUE], [NO_CATALOGUE]]
    monkeypatch.setattr(run, "_problems_of_gateway", lambda _: answers.pop(0))
    assert wait_for_gateway(8000, deadline_s=10.0) == [NO_CATALOGUE]


class Starting(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503)
        self.end_headers()
        self.wfile.write(b'{"ready": false, "problems": ["starting"]}')


def test_what_a_gateway_that_is_not_ready_says_is_read():
    with HTTPServer((run.HOST, 0), Starting) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        assert run._problems_of_gateway(server.server_port) == ["starting"]


def test_waiting_for_a_gateway_has_an_end_and_says_why():
    port = find_free()
    with pytest.raises(StackError, match=f"gateway at port {port} is not ready after 0 s: it does not answer"):
        wait_for_gateway(port, deadline_s=0.2)
    with pytest.raises(StackError, match="the stack ended before the gateway was ready"):
        wait_for_gateway(port, deadline_s=10.0, running=lambda: False)
