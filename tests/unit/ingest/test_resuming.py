"""Invariant: an import that is killed at any point and repeated gives the bytes of one that was not."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from botify.ingest.importing import Request, import_dataset
from botify.ingest.model import DatasetError
from botify.ingest.reading import dataset_directory, dataset_names

COLUMNS = {"user": "u", "item": "i", "time": "t"}
STEPS = ("reading", "numbering", "sorting", "syncing")

PROGRAM = """
import os, signal, sys
from pathlib import Path
from botify.ingest import importing
from botify.ingest.importing import Request, import_dataset

home, path, step = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
def progress(what, done, total):
    if what == step and (what != "reading" or done > total // 2):
        os.kill(os.getpid(), signal.SIGKILL)
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
if step == "syncing":
    importing._put_in_place = die
request = Request("csv", path, {"user": "u", "item": "i", "time": "t"})
import_dataset(home, "d", request, progress=progress, block_bytes=4096)
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log.csv"
    rows = (f"u{n * 7 % 83},i{n * n % 311},{n * 37 % 1009}\n" for n in range(3000))
    path.write_text("u,i,t\n" + "".join(rows) + "bad\n")
    return path


def hashes(home: Path) -> dict[str, str]:
    files = dataset_directory(home, "d").iterdir()
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.mark.parametrize("step", STEPS)
def test_a_killed_import_is_resumed_to_the_same_bytes(step: str, log: Path, tmp_path: Path) -> None:
    import_dataset(tmp_path / "whole", "d", Request("csv", str(log), COLUMNS))
    home = tmp_path / "killed"
    arguments = [sys.executable, "-c", PROGRAM, str(home), str(log), step]
    killed = subprocess.run(arguments, env={**os.environ, "PYTHONPATH": os.getcwd()}, check=False)  # noqa: S603, PTH109
    assert killed.returncode == -signal.SIGKILL
    assert dataset_names(home) == []
    told: list[str] = []
    import_dataset(home, "d", Request("csv", str(log), COLUMNS), progress=lambda what, *_: told.append(what))
    assert hashes(home) == hashes(tmp_path / "whole")
    assert ("reading" in told) == (step == "reading")  # what was done is not done again
    assert sorted(path.name for path in (home / "datasets").iterdir()) == [".d.importing.lock", "d"]


def test_what_was_staged_of_another_file_is_not_used(log: Path, tmp_path: Path) -> None:
    def stop(what: str, done: int, total: int) -> None:
        if what == "sorting":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_dataset(tmp_path, "d", Request("csv", str(log), COLUMNS), progress=stop)
    log.write_text("u,i,t\na,x,1\n")
    assert import_dataset(tmp_path, "d", Request("csv", str(log), COLUMNS)).card.events == 1


def test_a_dataset_has_one_importer(log: Path, tmp_path: Path) -> None:
    def again(what: str, done: int, total: int) -> None:
        with pytest.raises(DatasetError, match="another import writes dataset 'd'"):
            import_dataset(tmp_path, "d", Request("csv", str(log), COLUMNS))

    import_dataset(tmp_path, "d", Request("csv", str(log), COLUMNS), progress=again)
