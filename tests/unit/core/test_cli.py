"""What commands print."""

import pytest

from botify.core import cli
from botify.core.cli import print_json, progress
from tests.support import eventually


def test_without_a_terminal_a_long_wait_has_a_line_at_its_start_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(cli, "say", lambda text, _: said.append(text))
    monkeypatch.setattr(cli, "SILENT_S", 0.01)
    with progress("Reading listens", 10) as bar:
        bar.to(5)
        eventually(lambda: said)
    assert said == ["Reading listens ...", "Reading listens: ended after 0 s"]


def test_without_a_terminal_a_short_wait_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("Reading listens") as bar:
        bar.advance(5, 10)
    assert capsys.readouterr() == ("", "")


def test_a_bar_says_how_much_is_done_and_leaves_the_output_to_the_result(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with progress("Reading listens", 10) as bar:
        bar.to(5, doing="Folding listens")
        bar.console.print("a line above")
    with progress("Looking") as spinner:
        spinner.to(2)
    print_json({})
    printed = capsys.readouterr()
    assert printed.out == "{}\n"
    assert all(text in printed.err for text in ("Looking", "Folding listens", "50 %", "a line above"))
