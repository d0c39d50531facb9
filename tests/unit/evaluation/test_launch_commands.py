"""`botify experiment decide` and the further options of `results`, on an export."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from botify.analytics import AnalyticsError
from botify.analytics.cli import results
from botify.evaluation.launch import decide
from tests.unit.analytics.test_exported import write
from tests.unit.evaluation.test_launch import launch

APP = typer.Typer()
APP.command("decide")(decide)
APP.command("results")(results)
DECLARED = """
[[experiment]]
name = "A"
treatments = [{ name = "C", recommender = "random" }, { name = "T1", recommender = "mix" }]
success = ["mean_time_per_session"]
guardrails = { sessions = 0.2 }
[[experiment]]
name = "B"
aa = true
"""


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    (tmp_path / "mine.toml").write_text(DECLARED)
    return write(tmp_path / "listens", launch(0.1))


def run(data: Path, *arguments: str) -> Result:
    env = {"BOTIFY_EXPERIMENTS": str(data.parent / "mine.toml"), "COLUMNS": "100"}
    return CliRunner(env=env).invoke(APP, [*arguments, "--data", str(data)], catch_exceptions=False)


def test_the_verdict_is_one_sentence_below_the_table(ran: Path) -> None:
    lines = run(ran, "decide", "A").stdout.splitlines()
    assert any(line.split()[:2] == ["sessions", "guardrail"] for line in lines)
    assert lines[-1].startswith("Ship T1 mix: time per session is ")
    (found,) = json.loads(run(ran, "decide", "A", "--json").stdout)
    assert (found["outcome"], found["sentence"]) == ("ship", lines[-1])
    assert [row["goal"] for row in found["metrics"]][:2] == ["success", "guardrail 20.0%"]


@pytest.mark.parametrize(
    ("name", "why"),
    [("B", "experiment B declares no goals"), ("D", "does not declare experiment 'D'; it declares A, B")],
)
def test_what_cannot_be_decided_is_refused(ran: Path, name: str, why: str) -> None:
    with pytest.raises(AnalyticsError, match=why):
        run(ran, "decide", name)


def test_results_have_segments_quantiles_and_ratios(ran: Path) -> None:
    more = "--metric", "quantile:0.9", "--metric", "ratio"
    found = json.loads(run(ran, "results", "A", "--segment", "returning", *more, "--json").stdout)
    assert list(found["segments"]) == ["returning"]
    metrics = [effect["metric"] for effect in found["segments"]["returning"]["effects"]]
    assert metrics[-3:] == ["time_per_session", "p90_mean_time_per_session", "p90_mean_request_latency"]
    printed = run(ran, "results", "A", "--segment", "returning").stdout
    assert printed.splitlines()[0] == "returning"
    assert "read them as questions" in printed


@pytest.mark.parametrize("metric", ["retention:0", "retention:x", "quantile:1", "p90", ""])
def test_a_metric_that_there_is_not_is_refused(ran: Path, metric: str) -> None:
    with pytest.raises(AnalyticsError, match="is none of retention:DAYS"):
        run(ran, "results", "A", "--metric", metric)
