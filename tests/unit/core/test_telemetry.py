"""Invariant: whoever asks learns how the process is, and nobody who asks can hurt it."""

import json
import logging
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from unittest import mock

import pytest
from prometheus_client import CollectorRegistry, Gauge

from botify.core.errors import SettingsError
from botify.core.logging import JsonFormatter
from botify.core.settings import Settings
from botify.core.telemetry import MOST_AT_ONCE, DurationHistogram, Heartbeat, new_registry, observed


@pytest.fixture
def probes() -> dict[str, str | None]:
    return {"alive": None, "ready": "no partitions yet"}


@pytest.fixture
def url(probes: dict[str, str | None]) -> Iterator[str]:
    registry = CollectorRegistry()
    Gauge("answer", "It.", registry=registry).set(42)
    alive, ready = (lambda: probes["alive"]), (lambda: probes["ready"])
    with observed(Settings(metrics_port=0), registry, alive=alive, ready=ready) as served:
        assert served is not None
        yield served


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310 - our own address
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_metrics_are_what_the_registry_has(url: str) -> None:
    status, body = get(f"{url}/metrics?x=1")
    assert status == 200
    assert "answer 42.0" in body


def test_a_probe_says_what_is_wrong(url: str, probes: dict[str, str | None]) -> None:
    assert get(f"{url}/healthz") == (200, "ok\n")
    assert get(f"{url}/readyz") == (503, "no partitions yet\n")
    probes |= {"ready": None, "alive": "it hangs"}
    assert get(f"{url}/readyz") == (200, "ok\n")
    assert get(f"{url}/healthz") == (503, "it hangs\n")


def test_clients_that_say_nothing_take_no_more_than_their_threads(url: str) -> None:
    host, port = url.removeprefix("http://").split(":")
    silent = [socket.create_connection((host, int(port))) for _ in range(MOST_AT_ONCE + 1)]
    try:
        silent[-1].settimeout(5)
        assert silent[-1].recv(1) == b"", "the one too many was not turned away"
    finally:
        for one in silent:
            one.close()


def test_a_taken_port_names_its_variable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(SettingsError, match=f"BOTIFY_METRICS_PORT: 127.0.0.1:{port} cannot be listened on"),
            observed(Settings(metrics_port=port), CollectorRegistry()),
        ):
            raise AssertionError("it was served on a port that is taken")


def test_a_new_registry_has_what_any_process_has() -> None:
    names = {family.name for family in new_registry().collect()}
    assert {"process_cpu_seconds", "process_resident_memory_bytes", "python_gc_collections"} <= names


def test_a_loop_that_is_silent_is_not_well() -> None:
    times_s = iter([0.0, 60.0, 61.0, 62.0, 63.0])
    heartbeat = Heartbeat(silence_s=60.0, clock=lambda: next(times_s))
    assert heartbeat.probe() is None
    assert heartbeat.probe() == "the loop has not run for 61 s"
    heartbeat.beat()
    assert heartbeat.probe() is None


def test_durations_are_counted_up_to_their_bounds() -> None:
    histogram = DurationHistogram(bounds_s=(0.01, 0.1))
    histogram.update([0.002, 0.05, 0.06, 3.0])
    assert (histogram.counts, histogram.sum_s) == ([1, 2, 1], pytest.approx(3.112))


PROGRAM = """
import logging
from botify.core.logging import configure_logging
from botify.core.settings import Settings
configure_logging(Settings(log_format="json"), quiet=["loud"])
logging.getLogger("loud").info("not heard")
logging.getLogger("ours").info("claimed %d", 3, extra={"partition": 3, "request_id": "r-1"})
"""


def test_a_program_logs_one_object_a_line() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)  # noqa: S603
    (line,) = done.stderr.splitlines()
    said = {"level": "INFO", "logger": "ours", "message": "claimed 3", "partition": 3, "request_id": "r-1"}
    assert json.loads(line) == {"time": mock.ANY, **said}


def test_a_traceback_stays_on_its_line_in_json() -> None:
    try:
        json.loads("two\nlines")
    except ValueError:
        record = logging.LogRecord("a", logging.ERROR, "", 1, "it broke", None, sys.exc_info())
    line = JsonFormatter().format(record)
    assert "\n" not in line
    assert "Traceback (most recent call last):\n" in json.loads(line)["exception"]
