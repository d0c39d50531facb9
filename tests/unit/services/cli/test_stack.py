"""What `up` remembers and `reset` deletes; starting and stopping is in the integration tests."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from botify.core.errors import SettingsError
from botify.core.settings import Settings, remember
from botify.schemas.external_ids import UserIdError
from botify.services.cli.main import build_cli
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


def test_reset_says_what_it_deletes_and_deletes_only_when_told(home: Path) -> None:
    asked = botify("reset", typed="n\n")
    assert asked.exit_code == 1
    assert f"using {home}" in asked.stderr
    assert f"2.0 MB  {home / 'kafka'}\n" in asked.stdout
    assert f"0.3 MB  {home / 'valkey'}\n" in asked.stdout
    assert "kept: datasets, ports.json, recs.json" in asked.stdout
    assert (home / "kafka" / "a" / "0.log").exists()
    assert botify("reset", "--yes").exit_code == 0
    assert sorted(path.name for path in home.iterdir()) == ["datasets", "ports.json", "recs.json", "stack.lock"]
    assert "no topics and no state in" in botify("reset").stdout


def test_reset_leaves_a_stack_that_runs_alone(home: Path) -> None:
    with take_lock(home):
        assert isinstance(botify("reset", "--yes").exception, StackError)
    StackRecord(Identity(1, 0.0), processes={"kafka": Identity.of(os.getpid())}).write(home)  # its owner was killed
    refused = botify("reset", "--yes").exception
    assert isinstance(refused, StackError)
    assert "kafka of the stack in" in str(refused)
    assert (home / "kafka" / "a" / "0.log").exists()


@pytest.mark.parametrize(
    ("options", "variables", "why"),
    [
        (["--dataset", "other"], {}, "dataset 'other' is not in"),
        (["--dataset", "mine"], {"BOTIFY_DATASET": "other"}, "BOTIFY_DATASET=other would win"),
        (["--prefix", "lab"], {"BOTIFY_DATASET": "mine"}, "BOTIFY_DATASET=mine would win"),
        (["--dataset", "mine"], {"BOTIFY_TOPIC_PREFIX": "lab"}, "BOTIFY_TOPIC_PREFIX=lab would win"),
    ],
)
def test_up_remembers_nothing_that_it_cannot_serve(
    home: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], variables: dict[str, str], why: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    refused = botify("up", *options).exception
    assert isinstance(refused, SettingsError | UserIdError)
    assert why in str(refused)
    assert not (home / "settings.json").exists()


def test_what_a_running_stack_serves_stays_remembered(home: Path) -> None:
    remember(home, dataset="mine", topic_prefix="mine")
    with take_lock(home):
        refused = botify("up", "--prefix", "lab").exception
    assert "already runs" in str(refused)
    assert Settings.from_env({}).topic_prefix == "mine"
