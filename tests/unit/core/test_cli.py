"""What commands print."""

from __future__ import annotations

import pytest

from core.cli import print_json, spinner


def test_a_spinner_leaves_the_output_to_the_result(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with spinner("Reading listens"):
        pass
    print_json({})
    printed = capsys.readouterr()
    assert printed.out == "{}\n"
    assert "Reading listens" in printed.err
