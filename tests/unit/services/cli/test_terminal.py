"""What a person sees in a terminal of 80 columns: help, tables, and what the shell completes."""

import re
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from botify.services.cli import main as cli
from botify.services.recommender.registry import RECOMMENDERS
from botify.sim.world.config import WorldConfig
from botify.sim.world.generate import generate
from botify.sim.world.model import World
from botify.sim.world.store import save_world
from tests.unit.analytics.test_exported import write
from tests.unit.evaluation.test_launch import DECLARED, launch
from tests.unit.services.cli.test_without_servers import CLI, commands

COLUMNS = 80
COMMANDS = sorted(commands(typer.main.get_command(CLI)))
CUT = re.compile(r"[^\s(]…")
"""The end of a word that was cut; the dots of an interval stand alone."""


def shown(command: str, *arguments: str, **env: str) -> str:
    done = CliRunner(env={"COLUMNS": str(COLUMNS), **env}).invoke(CLI, [*command.split(), *arguments])
    assert done.exception is None, (done.output, done.exception)
    return done.stdout


def assert_fits(text: str) -> None:
    assert text.strip()
    assert [line for line in text.splitlines() if len(line) > COLUMNS and "  " in line] == []  # sentences may wrap
    assert [line for line in text.splitlines() if CUT.search(line)] == []


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_and_no_word_of_it_is_cut(command: str) -> None:
    help_of = shown(command, "--help")
    if command == "bench":  # its defaults are paths of the checkout, which may be long
        help_of = "\n".join(line for line in help_of.splitlines() if " /" not in line)
    assert_fits(help_of)
    assert "Usage: " in help_of


def test_lists_fit(tmp_path: Path) -> None:
    home, log = tmp_path / "home", tmp_path / "log.csv"
    log.write_text("who,what,when\n" + "".join(f"u{n},i{n},{1_700_000_000 + n}\n" for n in range(9)))
    mapped = "--map", "user=who,item=what,time=when"
    shown("data import", "csv", str(log), "--to", "a-log-of-last-winter", *mapped, BOTIFY_HOME=str(home))
    config = WorldConfig(tracks=50, artists=9, genres=3, users=9, dimensions=4)
    save_world(home, World("a-world-of-last-winter", *generate(config), {}))
    for command, headings in (
        ("data list", ["dataset", "source", "events", "users", "items", "rejected", "from", "to"]),
        ("world make", ["world", "tracks", "listeners", "made"]),
        ("experiment list", ["experiment", "layer", "traffic", "treatments", "salt"]),
    ):
        table = shown(command, BOTIFY_HOME=str(home))
        assert_fits(table)
        assert set(headings) <= set(re.findall(r"\w+", table))


def test_the_results_and_the_decision_of_an_experiment_fit(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(DECLARED)
    data = write(tmp_path / "listens", launch(0.1))
    segments = "--segment", "returning", "--metric", "quantile:0.9", "--metric", "ratio"
    for command, row, *more in (
        ("experiment results", "T1 +mean_time_per_session", *segments),
        ("experiment decide", "mean_time_per_session +success"),
    ):
        table = shown(command, "A", "--data", str(data), *more, BOTIFY_EXPERIMENTS=str(tmp_path / "mine.toml"))
        assert_fits(table)
        assert re.search(rf"^ ?{row}( +[+-]?\d+\.\d+){{3}} .*(yes|better)", table, re.MULTILINE)  # in one line


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("exp", {"experiment"}),
        ("experiment d", {"decide"}),
        ("replay ", {"run", "models", "status", "swap"}),
        ("evaluate ml100k --pro", {"--protocol"}),
    ],
)
def test_the_shell_completes_commands_and_options(
    typed: str, offered: set[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_BOTIFY_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", f"botify {typed}")
    monkeypatch.setenv("COMP_CWORD", str(typed.count(" ") + 1))
    monkeypatch.setattr(sys, "argv", ["botify"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    told = capsys.readouterr()
    assert offered <= set(told.out.split())
    assert told.err == ""


def test_each_recommender_has_a_line_of_its_own() -> None:
    lines = [line.split("  ") for line in shown("models list").splitlines() if line.strip()]
    named = {line[0].strip(): [cell.strip() for cell in line[1:] if cell.strip()] for line in lines}
    assert named.keys() >= RECOMMENDERS.keys()
    assert named["next_track"][1:] == ["toppop", "next_track"]
    assert named["rerank"][1:] == ["sticky_norepeat", "fism"]
    assert named["indexed"] == ["A track of the listener's own list, drawn uniformly", "random", "lists"]
    assert all(named[name][0] for name in RECOMMENDERS), "what it answers with"
