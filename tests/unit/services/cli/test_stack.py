"""What `up` remembers and `down --delete` deletes; starting and stopping is in the integration tests."""

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from botify.services.cli import build_cli
from botify.services.cli.stack import delete_state
from botify.services.errors import StackError
from botify.services.stack.embedded import take_lock
from botify.services.stack.record import Identity, StackRecord


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data directory of a stopped stack, above the working directory."""
    for name in ("BOTIFY_HOME", "BOTIFY_DATASET", "BOTIFY_TOPIC_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "part").mkdir()
    monkeypatch.chdir(tmp_path / "part")
    home = tmp_path / ".botify"
    users = home / "datasets" / "mine" / "users.parquet"
    for file, size in (("kafka/a/0.log", 2_000_000), ("valkey/aof", 300_000), ("ports.json", 2), ("recs.json", 2)):
        (home / file).parent.mkdir(parents=True, exist_ok=True)
        (home / file).write_bytes(b"x" * size)
    users.parent.mkdir(parents=True)
    pq.write_table(pa.table({"id": [0], "external_id": ["ada"]}), users)
    return home


def botify(*arguments: str, typed: str | None = None) -> Any:
    return CliRunner().invoke(build_cli(arguments[0]), arguments, input=typed)


def test_delete_says_what_it_deletes_and_deletes_only_when_told(home: Path) -> None:
    asked = botify("down", "--delete", typed="n\n")
    assert asked.exit_code == 1
    assert f"using {home}" in asked.stderr
    assert f"2.0 MB  {home / 'kafka'}\n" in asked.stdout
    assert f"0.3 MB  {home / 'valkey'}\n" in asked.stdout
    assert "kept: datasets, ports.json, recs.json" in asked.stdout
    assert (home / "kafka" / "a" / "0.log").exists()
    assert botify("down", "--delete", "--yes").exit_code == 0
    assert sorted(path.name for path in home.iterdir()) == ["datasets", "ports.json", "recs.json", "stack.lock"]
    assert "no topics and no state in" in botify("down", "--delete").stdout


def test_the_state_of_a_stack_that_runs_is_not_deleted(home: Path) -> None:
    with take_lock(home), pytest.raises(StackError):
        delete_state(home, yes=True)
    StackRecord(Identity(1, 0.0), processes={"kafka": Identity.of(os.getpid())}).write(home)  # its owner was killed
    with pytest.raises(StackError, match="kafka of the stack in"):
        delete_state(home, yes=True)
    assert (home / "kafka" / "a" / "0.log").exists()
