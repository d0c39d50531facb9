import sys
from importlib.metadata import EntryPoint
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from redis.exceptions import OutOfMemoryError

from botify.core.errors import BotifyError
from botify.services.cli import main as cli


def fail_foreseen() -> None:
    raise BotifyError("[listens] has 4 partitions; set BOTIFY_PARTITIONS=4")


def be_interrupted() -> None:
    raise KeyboardInterrupt


def lose_kafka() -> None:
    raise KafkaException(KafkaError(KafkaError._TRANSPORT, "broker down"))


def fill_redis() -> None:
    raise OutOfMemoryError("command not allowed when used memory > 'maxmemory'.")


def miss_a_file() -> None:
    open("nowhere/[at all]")  # noqa: PTH123, SIM115


def surprise() -> None:
    raise ZeroDivisionError


def one() -> None:
    print("one was run")


def two() -> None:
    pass


TARGETS = {"data.one": "one", "data.two": "two", "fail": "fail_foreseen", "interrupted": "be_interrupted"}
TARGETS |= {"kafka": "lose_kafka", "file": "miss_a_file", "redis": "fill_redis", "surprise": "surprise"}


@pytest.fixture(autouse=True)
def commands(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [EntryPoint(name, f"{__name__}:{target}", cli.GROUP) for name, target in TARGETS.items()]
    monkeypatch.setattr(cli, "entry_points", lambda group: entries)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Any:
    monkeypatch.setattr(sys, "argv", ["botify", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("fail", "error: [listens] has 4 partitions; set BOTIFY_PARTITIONS=4"),
        ("kafka", "error: Kafka: broker down; "),
        ("redis", "error: Redis is out of memory and refuses"),
        ("file", "error: nowhere/[at all]: No such file or directory"),
    ],
)
def test_what_is_foreseen_is_one_message_and_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, said: str
) -> None:
    assert run(monkeypatch, command) == 1
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert (captured.out, line[: len(said)]) == ("", said)


@pytest.mark.parametrize("arguments", [("-h",), ("data", "-h"), ("data", "one", "-h")])
def test_short_help_is_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    assert run(monkeypatch, *arguments) == 0
    assert "Usage: botify" in capsys.readouterr().out


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["botify", "surprise"])
    with pytest.raises(ZeroDivisionError):
        cli.main()


def test_an_interrupt_has_its_own_status(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "interrupted") == 130


def test_a_command_is_run_without_importing_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(TARGETS, "broken", "nowhere")
    assert run(monkeypatch, "data", "one") == 0
    assert "one was run" in capsys.readouterr().out


def test_help_and_a_wrong_name_know_all_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--help") == 0
    shown = capsys.readouterr().out
    assert all(name.partition(".")[0] in shown for name in TARGETS)
    assert run(monkeypatch, "grup") == 2
    assert "No such command" in capsys.readouterr().err
