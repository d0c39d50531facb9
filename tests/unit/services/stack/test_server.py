from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from botify.services.stack import server
from botify.services.stack.server import ChildProcess, bound, tail
from botify.services.stack.watchdog import Watchdog


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_while_a_child_starts_leaves_none_behind(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    popen = subprocess.Popen

    def interrupted(*args: Any, **options: Any) -> subprocess.Popen[bytes]:
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


def test_a_small_log_is_left_alone(tmp_path):
    log = tmp_path / "kafka.log"
    log.write_text("small\n")
    bound(log, max_bytes=100)
    assert log.read_text() == "small\n"


def test_a_big_log_is_moved_aside_and_the_writer_goes_on_at_the_start(tmp_path):
    log = tmp_path / "kafka.log"
    with log.open("a") as writer:
        writer.write("x" * 200)
        writer.flush()
        bound(log, max_bytes=100)
        writer.write("after")
    assert log.read_text() == "after"
    assert (tmp_path / "kafka.log.1").read_text() == "x" * 200


def test_the_tail_is_the_last_lines(tmp_path):
    log = tmp_path / "kafka.log"
    log.write_text("".join(f"{number}\n" for number in range(50)))
    assert tail(log, lines=2) == "48\n49"


def test_no_log_has_no_tail(tmp_path):
    bound(tmp_path / "gone.log")
    assert tail(tmp_path / "gone.log") == ""
