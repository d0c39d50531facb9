"""Botify's data log, brought into the topic and written from it again."""

import json
from itertools import product
from pathlib import Path

import pandas as pd
import pytest

from botify.analytics import AnalyticsError
from botify.analytics.data import read_listens
from botify.analytics.experiment import experiment_results
from botify.analytics.exported import ExportError
from botify.bench.studies import app
from botify.core.settings import Settings
from tests.commands import botify
from tests.unit.analytics.test_botify_log import line

EXPORT = "data", "export", "--format", "botify-log", "--out"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    calls = []
    for user, number in product(range(10), range(2)):
        said = {"time": round(0.1 * user, 2), "experiments": {"demo": "T1" if user % 2 else "C"}}
        last = 2 + user % 2
        for position in range(last + 1):
            track, timestamp = 10 * number + position, 1_649_268_865_000 + 1_000 * number + 10 * position + user
            calls.append(line(track, None if position == last else track + 1, user, timestamp=timestamp, **said))
    path = tmp_path / "data.json"
    path.write_text("\n".join(sorted(calls, key=lambda text: json.loads(text)["timestamp"])) + "\n")
    return path


def test_a_log_comes_back_as_it_was(settings: Settings, log: Path, tmp_path: Path) -> None:
    said = botify(settings, "import-log", str(log), cli=app).stdout
    assert "70 listens of run log" in said
    assert "70 are of tracks that the catalogue lacks" in said
    botify(settings, "import-log", str(log), cli=app)
    assert len(read_listens(settings)) == 70  # twice is once
    assert [effect.treatment for effect in experiment_results(read_listens(settings), "demo").effects] == ["T1"] * 5

    out = tmp_path / "out"
    assert "log.json: 70 lines" in botify(settings, *EXPORT, str(out)).stdout
    original, written = (
        [json.loads(text) for text in path.read_text().splitlines()] for path in (log, out / "log.json")
    )
    assert written == original
    assert pd.read_json(out / "log.json", lines=True).columns.tolist() == list(original[0])


def test_nothing_is_published_of_a_log_with_a_bad_line(settings: Settings, log: Path) -> None:
    with log.open("a") as lines:
        lines.write("rubbish\n")
    with pytest.raises(AnalyticsError, match="line 71 is not a message of Botify's data log"):
        botify(settings, "import-log", str(log), cli=app)
    assert read_listens(settings).empty


def test_a_log_is_made_of_listens(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="made of listens"):
        botify(settings, *EXPORT, str(tmp_path), "--topic", "sessions")
