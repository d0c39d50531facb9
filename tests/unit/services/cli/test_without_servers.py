"""Invariants over all commands: without its servers one says so at once, in one line; tables come as JSON, too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from botify.core.errors import NoBrokerError
from botify.services.cli.main import build_cli
from botify.services.stack.ports import find_free
from botify.streams.store.connect import RedisUnreachableError

NEED_NONE = {
    "bench drift",
    "bench decisions",
    "bench online",
    "bench recommenders",
    "course grade",
    "data import",
    "data list",
    "data sample",
    "data show",
    "demo",
    "down",
    "evaluate",
    "reset",
    "experiment decide",  # looks for the goals first
    "experiment list",
    "recommenders list",
    "status",  # says what is wrong beside all else
    "up",
    "world card",
    "world fit",
    "world generate",
    "world import",
    "world list",
}
ARGUMENTS = {
    "data publish": ["lastfm"],
    "dlq drop": ["--all"],
    "dlq exclude": ["--user", "1"],
    "dlq show": ["listens/0/1"],
    "experiment interaction": ["A", "B"],
    "experiment power": ["--effect", "5"],
    "experiment results": ["A"],
    "experiment ramp": ["STICKY_ARTIST"],
    "experiment show": ["STICKY_ARTIST"],
    "export": ["--out", "exported"],
    "import-log": ["log.json"],
    "inspect user": ["1"],
    "lists build": ["--from-topic"],
    "lists publish": ["log.json"],
    "replay repartition": ["--to", "16"],
    "replay swap": ["r1"],
    "snapshot load": ["saved"],
    "snapshot save": ["saved"],
}


PRINT_LINES = {
    "data import",
    "data publish",
    "data sample",
    "demo",
    "dlq drop",
    "dlq exclude",
    "dlq redrive",
    "dlq show",  # JSON without being asked
    "down",
    "experiment ramp",
    "export",
    "import-log",
    "report",
    "replay gc",
    "replay rollback",
    "replay swap",
    "reset",
    "snapshot load",
    "snapshot save",
    "topics create",
    "up",
    "world generate",
    "world import",
    "world publish",
}
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
