"""The commands `botify sim` and `botify world`."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from botify.core.errors import LoadError, SpeedError
from botify.services.cli import build_cli
from botify.sim import SimulationError

runner = CliRunner()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BOTIFY_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "small.toml").write_text("tracks = 300\nartists = 60\ngenres = 5\nusers = 40\ndimensions = 8\n")
    return tmp_path


def invoke(*arguments: object) -> str:
    result = runner.invoke(build_cli(str(arguments[0])), [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def world(home: Path) -> str:
    invoke("world", "make", "--config", home / "small.toml")
    (directory,) = (home / "worlds").iterdir()
    return directory.name


def test_a_world_is_generated_listed_and_played(world: str) -> None:
    assert world in invoke("world", "make", "--world", world)
    assert "tracks per session" in invoke("sim", "--agent", "dummy", "--world", world, "--sessions", 50)


def test_botifys_files_are_imported(home: Path) -> None:
    tracks, users = home / "tracks.json", home / "users.json"
    tracks.write_text("".join(json.dumps({"track": t, "artist": "a", "title": "t"}) + "\n" for t in range(20)))
    users.write_text(json.dumps({"user": 0, "interests": [1, 2, 3]}) + "\n")
    assert "20 tracks of 1 artists, 1 listeners" in invoke("world", "make", "--tracks", tracks, "--users", users)


def test_days_and_models_and_shards_are_options(world: str) -> None:
    options = f"--world {world} --days 2 --model drifting --set shard=1/2"
    assert "sessions" in invoke("sim", "--agent", "dummy", *options.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--speed", "fast"], "neither max nor a number"),
        *((["--set", f"shard={text}"], "index/count") for text in ("2/2", "a/4", "1", "-1/2", "1/2/3")),
        (["--rate", "-1"], "greater than 0"),
        (["--speed", "2x", "--rate", "1"], "exclude each other"),
        (["--days", "1", "--sessions", "5"], "exclude each other"),
        (["--set", "run_id="], "1 to 100 bytes"),
        (["--start", "tomorrow"], "must be a time"),
        (["--start", "1969-01-01"], "must not be before 1970"),
        (["--set", "users=500"], "users = 500 must be at most 40"),
        (["--set", "users=0"], "users = 0 must be greater than 0"),
        (["--model", "nobody"], "listener model"),
        (["--sessions", "0"], "greater than 0"),
        (["--speed", "nan"], "neither max nor a number"),
        (["--set", "seconds=inf"], "greater than 0 and finite"),
        (["--set", "users=many"], "'many' is not a number"),
        (["--set", "sessions=1"], "with a name of users, in_flight"),
        (["--seed", str(2**63)], "64 bits"),
        (["--agent", "collections:Counter"], "does not take catalogue, seed"),
        (["--model", "math:sqrt"], "does not take world, seed"),
        (["--world", "nowhere"], "no world has such a name"),
    ],
)
def test_options_that_cannot_be_met_are_one_message(world: str, arguments: list[str], message: str) -> None:
    with pytest.raises((LoadError, SimulationError, SpeedError), match=message):
        invoke("sim", "--agent", "dummy", "--world", world, *arguments)
