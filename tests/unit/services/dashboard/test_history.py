"""A day of figures in bounded memory and a bounded file; what is wrong keeps its beginning."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import pytest

from botify.services.dashboard.figures import GAP, RANGES, Trouble
from botify.services.dashboard.history import POINTS, History

DAY_S = 86_400
LAG = Trouble("BotifyLag", "the state is 20,000 listens behind")


def a_day(history: History, end_s: int, every_s: int = 30) -> None:
    for at_s in range(end_s - DAY_S, end_s, every_s):
        history.add(at_s, GAP._replace(listens_per_s=10.0, worker_lag=float(at_s == end_s - DAY_S // 2)))


def test_a_day_is_kept_over_a_restart_and_takes_no_more(tmp_path: Path) -> None:
    file, end_s = tmp_path / "cache" / "history.json", 1_800_000_000
    history = History(file)
    a_day(history, end_s)
    history.write(end_s)
    size = file.stat().st_size
    a_day(history, end_s + DAY_S)
    history.write(end_s + DAY_S)
    assert abs(file.stat().st_size - size) < 1_000
    assert size < 64_000
    kept = History(file).moments(end_s + DAY_S - 1)
    assert {name: len(moments) for name, moments in kept.items()} == dict.fromkeys(RANGES, POINTS)
    day = [moment.worker_lag for moment in kept["1 day"]]
    assert day[POINTS // 2] == 1.0  # of one reading of 24
    assert sum(day) == 1.0
    assert all(moment.listens_per_s == 10.0 for moment in kept["1 day"])


def test_what_was_not_measured_is_a_gap(tmp_path: Path) -> None:
    history = History()
    history.add(1_000.0, GAP._replace(listens_per_s=4.0))
    history.add(1_006.0, GAP._replace(listens_per_s=6.0))
    shown = [moment.listens_per_s for moment in history.moments(1_007.0)["2 min"]][-8:]
    assert [value if value == value else None for value in shown] == [4.0, 4.0, 4.0, 4.0, None, None, 6.0, 6.0]


def test_what_is_wrong_keeps_its_beginning_while_it_lasts_and_over_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "history.json"
    history = History(file)
    assert [trouble.since_s for trouble in history.lasting(100.0, [LAG])] == [100.0]
    assert history.lasting(101.0, []) == ()
    assert [trouble.since_s for trouble in history.lasting(130.0, [LAG])] == [100.0]  # it flickers
    history.write(131.0)
    again = History(file)
    assert again.lasting(500.0, []) == ()  # its server is not read yet
    assert [trouble.since_s for trouble in again.lasting(503.0, [LAG])] == [100.0]
    assert again.lasting(570.0, []) == ()
    assert [trouble.since_s for trouble in again.lasting(600.0, [LAG])] == [600.0]


def test_what_pages_comes_first_then_what_is_oldest() -> None:
    history = History()
    page = Trouble("BotifyProcessDown", "learner-1 has ended", "learner-1", pages=True)
    history.lasting(1.0, [LAG])
    assert [trouble.alert for trouble in history.lasting(2.0, [LAG, page])] == ["BotifyProcessDown", "BotifyLag"]


@pytest.mark.parametrize("text", ["", "[]", '{"rings": {}}', '{"rings": {"1 h": [[1]]}, "lasting": []}'])
def test_a_damaged_file_begins_a_new_history(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "history.json"
    file.write_text(text)
    history = History(file)
    assert "cannot be read" in caplog.text
    assert all(math.isnan(moment.worker_lag) for moment in history.moments(9.0)["1 h"])
    history.write(9.0)
    assert History(file).lasting(9.0, []) == ()


def test_a_folder_that_cannot_be_written_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "cache").write_text("a file")
    history = History(tmp_path / "cache" / "history.json")
    with caplog.at_level(logging.WARNING):
        history.write(1.0)
        history.write(2.0)
    assert len(caplog.records) == 1
