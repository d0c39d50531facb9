import errno
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from typing import Any, NamedTuple

import pytest
from confluent_kafka import KafkaError, KafkaException
from redis.exceptions import OutOfMemoryError

from botify.core.errors import BotifyError
from botify.services import cli

ERRORS = {
    "fail": BotifyError("[listens] has 4 partitions; set BOTIFY_PARTITIONS=4"),
    "file": FileNotFoundError(errno.ENOENT, "No such file or directory", "nowhere/[at all]"),
    "interrupted": KeyboardInterrupt(),
    "kafka": KafkaException(KafkaError(KafkaError._TRANSPORT, "broker down")),
    "redis": OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
    "surprise": ZeroDivisionError(),
}
NAMES = [*ERRORS, "data.one", "data.two"]


class Command(NamedTuple):
    """An entry point whose command fails, or prints its name."""

    name: str

    def load(self) -> Callable[[], None]:
        def command() -> None:
            if self.name in ERRORS:
                raise ERRORS[self.name]
            print(f"{self.name} was run")

        return command


Botify = Callable[..., tuple[Any, str, str]]


@pytest.fixture
def botify(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Botify:
    """Run the command line; return its exit status, and what it wrote to the output and to the error stream."""

    def run(*arguments: str) -> tuple[Any, str, str]:
        monkeypatch.setattr(sys, "argv", ["botify", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code, *capsys.readouterr()

    monkeypatch.setattr(cli, "entry_points", lambda group: list(map(Command, NAMES)))
    return run


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("fail", "error: [listens] has 4 partitions; set BOTIFY_PARTITIONS=4"),
        ("kafka", "error: Kafka: broker down; "),
        ("redis", "error: Redis is out of memory and refuses"),
        ("file", "error: nowhere/[at all]: No such file or directory"),
    ],
)
def test_what_is_foreseen_is_one_message_and_status_1(botify: Botify, command: str, said: str) -> None:
    status, output, errors = botify(command)
    (line,) = errors.splitlines()
    assert (status, output, line[: len(said)]) == (1, "", said)


@pytest.mark.parametrize("arguments", [("-h",), ("data", "-h"), ("data", "one", "-h")])
def test_short_help_is_help(botify: Botify, arguments: tuple[str, ...]) -> None:
    status, output, _ = botify(*arguments)
    assert (status, "Usage: botify" in output) == (0, True)


def test_a_bug_keeps_its_traceback(botify: Botify) -> None:
    with pytest.raises(ZeroDivisionError):
        botify("surprise")


def test_an_interrupt_has_its_own_status(botify: Botify) -> None:
    assert botify("interrupted")[0] == 130


def test_a_command_is_run_without_importing_the_others(botify: Botify, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = EntryPoint("broken", "nowhere:command", cli.GROUP)
    monkeypatch.setattr(cli, "entry_points", lambda group: [broken, Command("data.one")])
    assert botify("data", "one") == (0, "data.one was run\n", "")


def test_help_and_a_wrong_name_know_all_commands(botify: Botify) -> None:
    status, output, _ = botify("--help")
    assert (status, [name for name in NAMES if name.partition(".")[0] not in output]) == (0, [])
    status, _, errors = botify("grup")
    assert (status, "No such command" in errors) == (2, True)
