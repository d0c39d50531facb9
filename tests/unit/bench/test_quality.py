"""Invariant: what the pages quote of the quality of recommenders can be recorded again by one command."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from types import SimpleNamespace

import pytest
from typer.main import get_command

from botify.bench import quality
from botify.bench.cli import measurable
from botify.bench.figures import FigureError, pages
from botify.bench.quality import COMMANDS, command_of, main
from botify.services.cli.main import build_cli


def test_every_quoted_group_has_a_command() -> None:
    quoted = {group for page in pages() for group in re.findall(r"\bquality_\w+", page.read_text(encoding="utf-8"))}
    assert {group.removesuffix("_run") for group in quoted} == set(COMMANDS)


@pytest.mark.parametrize("group", COMMANDS)
def test_the_commands_exist(group: str) -> None:
    name, of, *options = command_of(group)
    command = get_command(build_cli()).commands[name].commands[of]  # type: ignore[attr-defined]
    given, _, _ = command.make_parser(command.context_class(command)).parse_args(list(options))
    assert {*(given.get("only") or "mix").split(","), given.get("recommender", "mix")} <= set(measurable())


@pytest.mark.parametrize(("argument", "words"), [("--help", "quality_online_1, "), ("mine", "error: unknown group")])
def test_a_newcomer_gets_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], argument: str, words: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["quality", argument])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(quality.__file__, run_name="__main__")
    assert words in " ".join(f"{capsys.readouterr().out} {ended.value.code}".split())


def test_a_failure_does_not_keep_the_others_from_running(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []

    def run(command: list[str], *, check: bool) -> SimpleNamespace:
        assert command[0] == sys.executable
        assert not check
        ran.append(command[3:])
        return SimpleNamespace(returncode=int("2022" in command))

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(FigureError, match="ended with an error: botify course grade --recommender mix --edition 2022"):
        main([])
    assert ran == [command_of(group) for group in COMMANDS]
    ran.clear()
    main(["quality_online_1"])
    assert ran == [command_of("quality_online_1")]
    with pytest.raises(FigureError, match="unknown group 'mine'; choose from quality_recommenders, "):
        main(["mine"])
