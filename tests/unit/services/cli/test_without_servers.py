"""Invariants over all commands: without its servers one says so at once, in one line; tables come as JSON, too."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from botify.core.errors import NoBrokerError
from botify.services.cli.main import FORMER, build_cli, main
from botify.services.stack.ports import find_free
from botify.streams.store.connect import RedisUnreachableError

NEED_NONE = {
    "bench", "data import", "data list", "data sample", "demo", "down", "evaluate", "experiment list", "models list",
    "up", "world fit", "world make",
    "experiment decide",  # looks for the goals first
    "status",  # says what is wrong in addition to all else
}  # fmt: skip
ARGUMENTS = {
    "data publish": ["lastfm"],
    "why": ["42"],
    "data follow": ["orders", "--map", "user=u,item=i"],
    "dlq drop": ["--all"],
    "dlq exclude": ["--user", "1"],
    "experiment power": ["--effect", "5"],
    "experiment results": ["A"],
    "experiment ramp": ["STICKY_ARTIST"],
    "data export": ["--out", "exported"],
    "models publish": ["--from-topic"],
    "recommend": ["--all", "--out", "all.parquet"],
    "replay load": ["saved"],
    "replay save": ["saved"],
    "replay swap": ["r1"],
    "whatif": ["--policy", "random"],
    "topics repartition": ["--to", "16"],
}


PRINT_LINES = {
    "data export", "data follow", "data import", "data publish", "data sample", "demo", "dlq drop", "dlq exclude",
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
NEED_SERVERS = sorted({*commands(typer.main.get_command(CLI))} - NEED_NONE)


def options_of(command: str) -> set[str]:
    found: Any = typer.main.get_command(CLI)
    for name in command.split():
        found = found.commands[name]
    return {option for parameter in found.params for option in parameter.opts}


@pytest.mark.parametrize("command", sorted({*commands(typer.main.get_command(CLI))} - PRINT_LINES))
def test_a_command_that_prints_a_table_prints_json_on_request(command: str) -> None:
    assert "--json" in options_of(command)


@pytest.mark.parametrize("command", NEED_SERVERS)
def test_a_command_without_its_servers_says_so(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("log.json", "saved"):
        (tmp_path / name).touch()
    address = f"127.0.0.1:{find_free()}"
    env = {"BOTIFY_HOME": str(tmp_path), "KAFKA_BOOTSTRAP_SERVERS": address, "REDIS_URL": f"redis://{address}/0"}
    env["BOTIFY_EXPERIMENTS"] = "course"
    done = CliRunner(env=env).invoke(CLI, [*command.split(), *ARGUMENTS.get(command, [])])
    assert isinstance(done.exception, NoBrokerError | RedisUnreachableError), (done.output, done.exception)
    assert str(done.exception).startswith(("no Kafka listens at", "no Redis listens at"))
    assert "\n" not in str(done.exception)


def test_there_are_few_commands_with_few_options() -> None:
    found = {*commands(typer.main.get_command(CLI))}
    assert len(found) <= 40
    assert {command for command in found if len(options_of(command)) > 12 + len({"--help", "-h"})} == set()


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
