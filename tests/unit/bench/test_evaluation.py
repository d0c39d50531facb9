"""A recorded table says how it was made, and one of its rows can be measured again."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from botify.bench import evaluation, figures
from botify.bench.evaluation import arguments_of, command_of, run_again, values_of
from botify.bench.figures import FigureError, read_figures, record

TABLE = "botify evaluate ml --protocol prequential --recommenders ours,ease,als --baseline ease --seeds 5"


def evaluated(name: str, recall: float, note: str = "", difference: float | None = None) -> dict[str, Any]:
    against = {"recall": {"value": difference, "lower": -0.01, "upper": 0.03}} if difference else {}
    metrics = {"recall": {"mean": recall, "error": 0.005}}
    return {"name": name, "note": note, "metrics": metrics, "figures": {"serve_us": 9.0}, "differences": against}


def test_command_and_rows_are_those_of_the_file() -> None:
    rows = [evaluated("ours", 0.2, "", 0.02), evaluated("ease", 0.18), evaluated("als", 0.1, "untuned")]
    about = {"dataset": {"name": "ml"}, "protocol": "prequential", "baseline": "ease", "seeds": 5}
    assert (
        command_of({**about, "settings": {"ease": {"l2": 250}}, "recommenders": rows}) == TABLE + " --set ease.l2=250"
    )
    values = values_of({"recommenders": rows})
    assert values["ours"]["against"] == "+0.0200 [−0.0100, +0.0300]"
    assert [row["untuned"] for row in values.values()] == ["", "", "*"]


def test_settings_of_recommenders_that_are_not_run_again_are_left_out() -> None:
    arguments = arguments_of(f"{TABLE} --set als.factors=9 --set ease.l2=250", "ours")
    assert arguments[arguments.index("--recommenders") + 1] == "ours,ease"
    assert arguments[-2:] == ["--set", "ease.l2=250"]


def test_the_baseline_is_not_run_again_alone() -> None:
    with pytest.raises(FigureError, match="ease is the baseline"):
        arguments_of(TABLE, "ease")


def test_only_the_row_that_is_run_again_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = tmp_path / "figures.json"
    recorded.write_text("{}")
    monkeypatch.setattr(evaluation, "read_figures", lambda: read_figures(recorded))
    monkeypatch.setattr(evaluation, "record", lambda *of: record(*of, recorded))
    record("table", TABLE, {"ours": {"recall": 0.2}, "als": {"recall": 0.1}}, recorded)
    record("other", "botify bench micro", {"ours": {"recall": 0.2}}, recorded)

    def run(command: Sequence[str], *, check: bool) -> None:
        rows = [evaluated("ours", 0.3, "", 0.02), evaluated("ease", 0.18)]
        Path(command[command.index("--json") + 1]).write_text(json.dumps({"recommenders": rows}))

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(figures, "provenance", dict)
    run_again("ours")
    after = read_figures(recorded)
    assert after["table"]["values"]["ours"]["recall"] == 0.3
    assert after["table"]["values"]["als"] == {"recall": 0.1}
    assert after["table"]["command"] == TABLE
    assert after["other"]["values"] == {"ours": {"recall": 0.2}}
