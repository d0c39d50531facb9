"""A disk that fills up again and again: the embedded stack stops before it, waits for room, and loses nothing."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from confluent_kafka import KafkaError

from botify.services.stack.ports import HOST, find_free
from botify.services.stack.record import StackRecord
from botify.services.stack.run import running_stack
from botify.services.stack.supervisor import programs
from tests.chaos.conftest import TRACKS
from tests.chaos.load import Load, listens_for_ever
from tests.chaos.whole import assert_whole
from tests.support import Repeatedly, eventually, write_catalogue

DISK = "900m"
BACK_S = 180.0
LEFT_BYTES = (0, 100 << 20)
"""What each filling leaves free: nothing, at once, and so much that Kafka can end in order."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Return the folder of a small file system of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    sudo = [] if os.geteuid() == 0 else ["sudo", "--non-interactive"]
    options = f"size={DISK},uid={os.geteuid()},mode=700"
    command = [*sudo, "mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a small disk needs the right to mount one ({error})")
    yield folder
    subprocess.run([*sudo, "umount", "--lazy", str(folder)], check=True)  # noqa: S603


def fill(folder: Path, left_bytes: int) -> Path:
    """Take the room of a disk, all but so much, with one file."""
    ballast, size, step = folder / "ballast", 0, 32 << 20
    with ballast.open("wb") as file:
        while step and shutil.disk_usage(folder).free > left_bytes:
            try:
                os.posix_fallocate(file.fileno(), size, step)
                size += step
            except OSError:  # others write too
                step >>= 1
    return ballast


def readiness(port: int) -> list[str]:
    try:
        return list(httpx.get(f"http://{HOST}:{port}/readyz", timeout=10, trust_env=False).json()["problems"])
    except httpx.TransportError as error:
        return [repr(error)]


def test_full_disks_lose_nothing(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("KAFKA_BOOTSTRAP_SERVERS", "REDIS_URL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("BOTIFY_PARTITIONS", "4")
    home, port = disk / "home", find_free()
    own = programs(workers=1, recommenders=0, gateways=1)
    with running_stack(home, own, environ={"BOTIFY_GATEWAY_PORT": str(port)}, notify=print) as (settings, supervisor):
        write_catalogue(settings, TRACKS)
        # Kafka has no error of its own for each write that a full disk refuses
        listens, refused = listens_for_ever(100, TRACKS, seed=37), [KafkaError.UNKNOWN]
        load = Load(settings, listens, per_s=100, patience_s=2 * BACK_S, again=refused)
        with Repeatedly(0.2, supervisor.check), load:  # as `botify up` checks
            eventually(lambda: not readiness(port), BACK_S)
            for left_bytes in LEFT_BYTES:
                ballast = fill(disk, left_bytes)
                eventually(lambda: "kafka" not in StackRecord.read(home).survivors(), BACK_S, "end of Kafka")
                eventually(lambda: "MB free: Kafka stops below" in str(readiness(port)), BACK_S)
                ballast.unlink()
                eventually(lambda: not readiness(port), BACK_S, lambda: readiness(port))
        assert_whole(settings, load.sent)
        assert not supervisor.given_up
