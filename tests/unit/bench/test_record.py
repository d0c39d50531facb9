"""What the pages quote of the quality of recommenders can be recorded again, and says how it was made."""

import re
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from typer.main import get_command

from botify.bench.cli import measurable
from botify.bench.figures import FigureError, pages
from botify.bench.record import COMMANDS, command_of, evaluate_command_of, quality, values_of
from botify.bench.studies import app as studies
from botify.services.cli.main import build_cli

TABLE = "botify evaluate ml --protocol prequential --recommenders ours,ease,als --baseline ease --seeds 5"


def evaluated(name: str, recall: float, note: str = "", difference: float | None = None) -> dict[str, Any]:
    against = {"recall": {"value": difference, "lower": -0.01, "upper": 0.03}} if difference else {}
    metrics = {"recall": {"mean": recall, "error": 0.005}}
    return {"name": name, "note": note, "metrics": metrics, "figures": {"serve_us": 9.0}, "differences": against}


def test_command_and_rows_are_those_of_the_file() -> None:
    rows = [evaluated("ours", 0.2, "", 0.02), evaluated("ease", 0.18), evaluated("als", 0.1, "untuned")]
    about = {"dataset": {"name": "ml"}, "protocol": "prequential", "baseline": "ease", "seeds": 5}
    assert (
        evaluate_command_of({**about, "settings": {"ease": {"l2": 250}}, "recommenders": rows})
        == TABLE + " --set ease.l2=250"
    )
    values = values_of({"recommenders": rows})
    assert values["ours"]["against"] == "+0.0200 [−0.0100, +0.0300]"
    assert [row["untuned"] for row in values.values()] == ["", "", "*"]


def test_every_quoted_group_has_a_command() -> None:
    quoted = {
        group for template, _ in pages() for group in re.findall(r"\bquality_\w+", template.read_text(encoding="utf-8"))
    }
    assert {group.removesuffix("_run") for group in quoted} == set(COMMANDS)


@pytest.mark.parametrize("group", COMMANDS)
def test_the_commands_exist(group: str) -> None:
    _, module, name, *options = command_of(group)
    cli = build_cli("bench") if module == "botify.services.cli" else studies
    command = get_command(cli).commands[name]  # type: ignore[attr-defined]
    given, _, _ = command.make_parser(command.context_class(command)).parse_args(list(options))
    assert {*(given.get("recommenders") or "rerank").split(","), given.get("recommender", "rerank")} <= set(
        measurable()
    )


def test_a_failure_does_not_keep_the_others_from_running(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []

    def run(command: list[str], *, check: bool) -> SimpleNamespace:
        assert command[0] == sys.executable
        assert not check
        ran.append(command[1:])
        return SimpleNamespace(returncode=int("2022" in command))

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(
        FigureError, match=r"ended with an error: python -m botify.bench.studies grade .* --edition 2022"
    ):
        quality()
    assert ran == [command_of(group) for group in COMMANDS]
    ran.clear()
    quality(["quality_online_1"])
    assert ran == [command_of("quality_online_1")]
    with pytest.raises(FigureError, match="unknown group 'mine'; choose from quality_recommenders, "):
        quality(["mine"])
