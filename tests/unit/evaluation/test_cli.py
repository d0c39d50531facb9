"""The command, from a CSV file to table, JSON and pictures."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from botify.evaluation import EvaluationError
from botify.evaluation.cli import evaluate
from botify.evaluation.table import LEAST_QUESTIONS
from botify.ingest.importing import Request, import_dataset
from tests.unit.evaluation.logs import random_log

app = typer.Typer()
app.command()(evaluate)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BOTIFY_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "120")
    events = random_log().events
    rows = zip(events.users, events.items, events.fractions, events.times_ms, strict=True)
    lines = [f"{user},{item},{1 + 4 * fraction:.0f},{time_ms // 1000}" for user, item, fraction, time_ms in rows]
    (tmp_path / "ratings.csv").write_text("\n".join(["user,item,stars,time", *lines]) + "\n", encoding="utf-8")
    columns = {"user": "user", "item": "item", "rating": "stars", "time": "time"}
    import_dataset(tmp_path, "ratings", Request("csv", str(tmp_path / "ratings.csv"), columns))
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_a_dataset_is_evaluated(home: Path) -> None:
    file, plots = home / "figures.json", home / "plots"
    result = run(
        "ratings", "--recommenders", "toppop,ease", "--baseline", "toppop", "--seeds", "2",
        "--json", str(file), "--plots", str(plots),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "test figures by prequential, second half; mean of 2 replays" in result.output
    assert "ease*" in result.output
    assert "toppop: recall@10 0." in result.stderr  # as soon as it is known
    assert sorted(path.name for path in plots.iterdir()) == [
        "ratings-prequential-history.png", "ratings-prequential-learning.png",
    ]  # fmt: skip
    figures = json.loads(file.read_text())
    assert (figures["positive"], figures["figures"], figures["baseline"]) == (0.75, "test", "toppop")
    toppop, ease = figures["recommenders"]
    assert toppop["differences"] == {}
    difference = ease["metrics"]["recall"]["mean"] - toppop["metrics"]["recall"]["mean"]
    assert ease["differences"]["recall"]["value"] == pytest.approx(difference)


def test_a_peer_that_takes_too_long_is_a_row_that_says_so(home: Path) -> None:
    file = home / "figures.json"
    chosen = "--recommenders", "toppop,ease", "--seeds", "1", "--set", "peer_minutes=0"
    result = run("ratings", *chosen, "--json", str(file))
    assert result.exit_code == 0, result.output
    assert "ease: left out, took more than 0 minutes" in result.stdout
    figures = json.loads(file.read_text())
    assert figures["left_out"] == {"ease": "took more than 0 minutes"}
    assert [one["name"] for one in figures["recommenders"]] == ["toppop"]
    result = run("ratings", *chosen, "--baseline", "ease")
    assert "ease, the baseline, was not evaluated: took more than 0 minutes" in str(result.exception)


def test_json_is_printed_and_nothing_else_and_few_questions_are_warned_of(home: Path) -> None:
    chosen = "--recommenders", "toppop", "--seeds", "1", "--protocol", "temporal-split"
    printed = run("ratings", *chosen, "--json", "--plots", str(home / "plots"))
    assert printed.exit_code == 0, printed.output
    assert [one["name"] for one in json.loads(printed.stdout)["recommenders"]] == ["toppop"]
    assert re.search(r"warning: \d+ questions are too few", printed.stderr)


def test_validation_figures_say_so_and_settings_take_untuned_away(home: Path) -> None:
    result = run(
        "ratings", "--recommenders", "ease", "--seeds", "1", "--set", "validation=1", "--set", "ease.l2=10",
        "--plots", str(home / "plots"),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "validation figures by prequential" in result.output
    assert "test figures" not in result.output
    assert "untuned" not in result.output
    assert all("-validation-" in path.name for path in (home / "plots").iterdir())


def test_peers_are_tuned_and_new_items_have_a_table_of_their_own(home: Path) -> None:
    file = home / "figures.json"
    chosen = "--recommenders", "toppop,ease,personal", "--seeds", "1", "--json", str(file), "--set", "ease.l2=10"
    result = run("ratings", *chosen, "--set", "tune=3", "--set", "new_plays=5", "--set", "shuffle_sittings=30")
    assert result.exit_code == 0, result.output
    figures = json.loads(file.read_text())
    rows, new = ({one["name"]: one for one in figures[part]} for part in ("recommenders", "new_items"))
    assert rows["personal"]["note"].startswith("best of 3 on validation (half_life=")
    assert rows["ease"]["note"] == "", "its setting was given"
    assert 0 < asked(new["ease"]) < asked(rows["ease"]) == figures["questions"]
    assert re.search(rf"{figures['questions']} questions of \d+ users in a replay", result.stdout)
    assert "items of a sitting, up to 30 minutes apart, shuffled" in result.stdout
    assert f"{asked(new['ease'])} questions of items with fewer than 5 earlier plays" in result.stdout
    assert ("too few" in result.stderr) == (figures["questions"] < LEAST_QUESTIONS)


def asked(row: dict[str, Any]) -> int:
    return sum(step["count"] for step in row["by_history"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["figures.json"], "write --json figures.json"),
        (["--recommenders", "toppop,indexed", "--through", "kafka"], "'indexed' serves lists of a batch job"),
        (["--recommenders", ","], "name at least one"),
        (["--recommenders", "toppop,ease", "--through", "kafka"], "'ease' is not served"),
        (["--recommenders", "toppop", "--set", "ease.l2=1"], "is of none of the recommenders toppop"),
        (["--recommenders", "ease", "--set", "tune=3", "--set", "validation=1"], "leave validation out"),
        (["--recommenders", "ease", "--set", "ease.l2=x"], "is not NAME=NUMBER"),
        (["--recommenders", "ease", "--set", "ease.l3=1"], "ease has no setting 'l3'; it has l2"),
        (["--recommenders", "toppop", "--set", "toppop.l2=1"], "toppop has no setting 'l2'; it has none"),
    ],
)
def test_what_cannot_be_run_is_refused_first(home: Path, arguments: list[str], message: str) -> None:
    result = run("ratings", *arguments)
    assert isinstance(result.exception, EvaluationError)
    assert message in str(result.exception)
