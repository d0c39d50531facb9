"""Invariants over all commands, in a terminal of 80 columns and without servers; what the shell completes."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from botify.core.errors import NoBrokerError
from botify.services.cli import FORMER, build_cli, main
from botify.services.recommender.registry import RECOMMENDERS
from botify.services.stack.ports import find_free
from botify.sim.world.config import WorldConfig
from botify.sim.world.generate import generate
from botify.sim.world.model import World
from botify.sim.world.store import save_world
from botify.streams.store.connect import RedisUnreachableError
from tests.unit.analytics.test_exported import write
from tests.unit.evaluation.test_launch import DECLARED, launch

NEED_NONE = {
    "bench", "data import", "data list", "demo", "down", "evaluate", "models list",
    "up", "world fit", "world make",
    "status",  # says what is wrong in addition to all else
}  # fmt: skip
ARGUMENTS = {
    "data export": "--out exported", "data follow": "orders --map user=u,item=i", "data publish": "lastfm",
    "dlq drop": "--all", "dlq exclude": "--user 1",
    "experiment power": "--effect 5", "experiment ramp": "STICKY_ARTIST", "experiment results": "A",
    "models publish": "--from-topic", "recommend": "--all --out all.parquet",
    "replay load": "saved", "replay save": "saved", "replay swap": "r1",
    "topics repartition": "--to 16", "whatif": "--policy random", "why": "42",
}  # fmt: skip
PRINT_LINES = {
    "data export", "data follow", "data import", "data publish", "demo", "dlq drop", "dlq exclude",
    "dlq redrive", "down", "experiment ramp", "recommend", "report", "replay load", "replay save", "replay swap", "up",
}  # fmt: skip
"""Commands without a table."""


def commands(group: Any, names: tuple[str, ...] = ()) -> Iterator[str]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*names, name))
        else:
            yield " ".join((*names, name))


CLI = build_cli()
COMMANDS = sorted(commands(typer.main.get_command(CLI)))


def options_of(command: str) -> set[str]:
    found: Any = typer.main.get_command(CLI)
    for name in command.split():
        found = found.commands[name]
    return {option for parameter in found.params for option in parameter.opts}


@pytest.mark.parametrize("command", sorted({*COMMANDS} - PRINT_LINES))
def test_a_command_that_prints_a_table_prints_json_on_request(command: str) -> None:
    assert "--json" in options_of(command)


@pytest.mark.parametrize("command", sorted({*COMMANDS} - NEED_NONE))
def test_a_command_without_its_servers_says_so(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("log.json", "saved"):
        (tmp_path / name).touch()
    address = f"127.0.0.1:{find_free()}"
    servers = {"KAFKA_BOOTSTRAP_SERVERS": address, "REDIS_URL": f"redis://{address}/0"}
    env = {"BOTIFY_HOME": str(tmp_path), "BOTIFY_EXPERIMENTS": "course", **servers}
    done = CliRunner(env=env).invoke(CLI, f"{command} {ARGUMENTS.get(command, '')}")
    assert isinstance(done.exception, NoBrokerError | RedisUnreachableError), (done.output, done.exception)
    assert str(done.exception).startswith(("no Kafka listens at", "no Redis listens at"))
    assert "\n" not in str(done.exception)


def test_there_are_few_commands_with_few_options() -> None:
    assert len(COMMANDS) <= 36
    assert [command for command in COMMANDS if len(options_of(command)) > 12 + len({"--help", "-h"})] == []


@pytest.mark.parametrize("former", FORMER)
def test_a_former_name_answers_with_the_present_one(former: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["botify", *former.split(), "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    now = FORMER[former].split()
    if now[0] == "botify":
        group = typer.main.get_command(CLI)
        for word in now[1:]:
            group = getattr(group, "commands", {}).get(word, group)
        assert not hasattr(group, "commands"), f"{former} names no command"
    else:
        assert now[:3] == ["python", "-m", "botify.bench.studies"]


COLUMNS = 80
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
        ("experiment results", ["experiment", "layer", "traffic", "treatments", "salt"]),
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
        ("experiment results", "mean_time_per_session +success", "--decide"),
    ):
        table = shown(command, "A", "--data", str(data), *more, BOTIFY_EXPERIMENTS=str(tmp_path / "mine.toml"))
        assert_fits(table)
        assert re.search(rf"^ ?{row}( +[+-]?\d+\.\d+){{3}} .*(yes|better)", table, re.MULTILINE)  # in one line


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("exp", {"experiment"}),
        ("experiment r", {"results", "ramp"}),
        ("replay ", {"run", "load", "status", "swap"}),
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
        main()
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
