"""Invariant: two commits are measured in turn, each with its own code, and nothing of the other one is left behind."""

import json
import signal
from functools import partial
from pathlib import Path

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

import botify.bench.__main__ as program
from botify.bench.against import THIS, AgainstError, Run, checked_out, ratios_of, run_rounds
from tests.support import git

PYPROJECT = """
[project]
name = "botify"
version = "0.{number}"

[project.entry-points.fakes]
one = "product:{number}"
"""
PROGRAM = """
import json, subprocess, sys
from importlib.metadata import entry_points

def _speed():
    product = subprocess.run([sys.executable, "-m", "product"], capture_output=True, check=True).stdout
    (point,) = entry_points(group="fakes")
    return {"group.per_s": float(product), "group.cpu_us.per_s.worker": float(point.value.partition(":")[2])}

def _broken():
    raise ValueError("the benchmark is broken")

MEASUREMENTS = {"speed": _speed, "broken": _broken}

def main(names, out):
    out.write_text(json.dumps({"runs": [{"figures": MEASUREMENTS[name]()} for name in names]}))
"""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make two commits of a fake benchmark, `HEAD~` with 2 a second and `HEAD` with 6, and put all else in `place`."""
    root, place = tmp_path / "repository", tmp_path / "place"
    root.mkdir()
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    git(root, "init", "--quiet")
    for file, text in (("streams/compiled.py", ""), ("bench/loop.py", ""), ("bench/__main__.py", PROGRAM)):
        (root / "botify" / file).parent.mkdir(parents=True, exist_ok=True)
        (root / "botify" / file).write_text(text)
    (root / ".gitignore").write_text("__pycache__/\n")
    for number in (2, 6):
        (root / "pyproject.toml").write_text(PYPROJECT.format(number=number))
        (root / "product.py").write_text(f"print({number})\n")
        git(root, "add", ".")
        git(root, "commit", "--quiet", "--message", str(number))
    monkeypatch.chdir(root)  # programs of the other commit must not be found in the working directory
    return root


def test_ratios_are_of_runs_of_one_round() -> None:
    runs = [
        Run("speed", number, commit, {"per_s": value, "stopped": 0.0, f"only of {commit}": 1.0})
        for number, pair in enumerate([(10.0, 5.0), (30.0, 30.0), (8.0, 2.0)])
        for commit, value in zip((THIS, "old"), pair, strict=True)
    ]
    speed, stopped = ratios_of(runs)
    assert speed == ("per_s", 10.0, 5.0, 1.0, 2.0, 4.0)
    assert str(stopped.median) == "nan"


def test_a_failure_says_how_it_ended_and_leaves_nothing(repository: Path) -> None:
    with (
        pytest.raises(AgainstError, match="the benchmark is broken"),
        checked_out("HEAD~", repository) as place,
    ):
        list(run_rounds(["broken"], "HEAD~", 1, place, repository))
    assert len(git(repository, "worktree", "list").splitlines()) == 1
    assert not git(repository, "status", "--short")
    assert not any(Path("../place").iterdir())


def test_the_command_prints_ratios_and_writes_all_rounds(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "checked_out", partial(checked_out, root=repository))
    monkeypatch.setattr(program, "run_rounds", partial(run_rounds, root=repository))
    monkeypatch.setattr(program, "console", Console(width=200))
    monkeypatch.setitem(program.MEASUREMENTS, "speed", lambda *_: {})
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    app, out = typer.Typer(), tmp_path / "rounds.json"
    app.command()(program.main)
    result = CliRunner().invoke(app, ["speed", "--against", "HEAD~", "--rounds", "1", "--json", str(out)])
    assert result.exit_code == 0, result.output
    rows = [line.split() for line in result.output.splitlines()]
    assert ["group.per_s", "6", "2", "3", "3", "3"] in rows
    assert ["group.cpu_us.per_s.worker", "6", "2", "3", "3", "3"] in rows
    written = json.loads(out.read_text())
    assert written.keys() >= {"machine", "commit", "runs"}
    assert [(run["commit"], run["figures"]["group.per_s"]) for run in written["runs"]] == [(THIS, 6), ("HEAD~", 2)]
