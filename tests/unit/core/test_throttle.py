"""Invariant: a thread that works beside one that serves rests in proportion, while it works and afterwards."""

import os
import sys
import threading
from typing import Any

import pytest

from botify.core import throttle as throttling
from botify.core.throttle import AT_ONCE_S, LEAST_S, NICE, lower_priority, throttle, throttled


class Clock:
    """Time of a thread that works and rests; it is the event that ends a rest, too."""

    def __init__(self) -> None:
        self.worked_s = self.now_s = 0.0
        self.rests: list[float] = []

    def thread_time(self) -> float:
        return self.worked_s

    def monotonic(self) -> float:
        return self.now_s

    def wait(self, rest_s: float) -> None:
        self.rests.append(rest_s)
        self.now_s += rest_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    clock = Clock()
    monkeypatch.setattr(throttling, "time", clock)
    return clock


def test_rests_come_between_pieces_of_work_and_the_last_one_at_the_end(clock: Any) -> None:
    with throttled(4.0, most_s=100.0, stopping=clock):
        for _ in range(10):
            clock.worked_s += AT_ONCE_S
            throttle()
    assert clock.rests == pytest.approx([4 * AT_ONCE_S] * 10)
    assert sum(clock.rests) == pytest.approx(4 * clock.worked_s)


def test_rests_have_a_bound(clock: Any) -> None:
    with throttled(4.0, most_s=3.0, stopping=clock):
        for _ in range(10):
            clock.worked_s += 1.0
            throttle()
    assert sum(clock.rests) == pytest.approx(3.0)


def test_no_other_work_rests(clock: Any) -> None:
    with throttled(4.0, most_s=100.0, stopping=clock):
        other = threading.Thread(target=throttle)
        clock.worked_s += 10.0
        other.start()
        other.join()
        assert clock.rests == []
    clock.rests.clear()
    clock.worked_s += 10.0
    throttle()
    assert clock.rests == []


@pytest.mark.skipif(sys.platform != "linux", reason="only there a thread has a priority of its own")
def test_one_thread_steps_back_and_no_other() -> None:
    found: list[int] = []

    def work() -> None:
        lower_priority()
        found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [max(before, NICE)]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before


def test_short_work_rests_only_at_the_end(clock: Any) -> None:
    with throttled(4.0, most_s=100.0, stopping=clock):
        clock.worked_s += AT_ONCE_S
        throttle()
        clock.worked_s += LEAST_S / 8  # too short a rest
        throttle()
        assert clock.rests == []
    assert clock.rests == pytest.approx([4 * AT_ONCE_S + LEAST_S / 2])
