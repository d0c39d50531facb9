from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from analytics.analysis import HOUR_MS, Analysed, Analysis, analyse
from analytics.assignment import METRICS, assign
from analytics.data import listens_frame
from analytics.experiment import experiment_results
from analytics.render import render_table
from analytics.sessions import sessions_of
from schemas.events import Listen
from tests.unit.analytics.listens import drawn
from tests.unit.analytics.test_adjust import with_a_past


def analysed(listens: list[Listen], analysis: Analysis) -> Analysed:
    frame = listens_frame(listens)
    return analyse("demo", sessions_of(frame), assign(frame, "demo"), analysis)


@pytest.fixture(scope="module")
def listens() -> list[Listen]:
    return drawn(300, np.random.default_rng(1), uplift=0.7)


def widths(results: Analysed) -> pd.Series:
    table = results.results.table
    return (table["upper"] - table["lower"]).set_axis(table["metric"])


def test_the_plain_analysis_is_the_table(listens: list[Listen]) -> None:
    results, notes = analysed(listens, Analysis())
    assert notes == []
    pd.testing.assert_frame_equal(results.table, experiment_results(listens_frame(listens), "demo").table)


def test_more_confidence_is_a_wider_interval(listens: list[Listen]) -> None:
    assert (widths(analysed(listens, Analysis(alpha=0.01))) > widths(analysed(listens, Analysis()))).all()


def test_holm_takes_significance_back(listens: list[Listen]) -> None:
    least = max(e.p_value for e in analysed(listens, Analysis()).results.effects)
    plain, corrected = (analysed(listens, Analysis(alpha=least + 1e-9, holm=holm)) for holm in (False, True))
    assert [e.significant for e in plain.results.effects] == [True] * 5
    significant = [e.metric for e in corrected.results.effects if e.significant]
    assert significant == [e.metric for e in plain.results.effects if e.p_holm < least + 1e-9]
    assert 0 < len(significant) < 5
    assert corrected.notes == ["significance is corrected for 5 comparisons (Holm)"]


def test_cuped_makes_intervals_narrower_and_says_by_how_much() -> None:
    listens = with_a_past(100, np.random.default_rng(2))
    plain, adjusted = (analysed(listens, Analysis(cuped=cuped)) for cuped in (False, True))
    assert widths(adjusted)["time"] < 0.5 * widths(plain)["time"]
    assert "% (mean_tracks_per_session)" in adjusted.notes[0]


def test_intervals_that_hold_at_every_look_count_settled_users_and_are_wider() -> None:
    day = [e._replace(timestamp_ms=e.timestamp_ms * 40_000) for e in drawn(300, np.random.default_rng(3))]
    plain, looked_at = (analysed(day, Analysis(window_ms=w, tuned_for=200)) for w in (None, HOUR_MS))
    assert len(looked_at.results.users) < 300
    assert looked_at.notes == [
        f"valid at every look: the first 1 h of each of {len(looked_at.results.users)} listeners"
    ]
    assert widths(looked_at)["mean_tracks_per_session"] > 1.4 * widths(plain)["mean_tracks_per_session"]


def test_the_drawn_table_carries_the_notes_and_the_confidence(listens: list[Listen]) -> None:
    results, notes = analysed(listens, Analysis(alpha=0.01, holm=True))
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(render_table(results, notes, alpha=0.01))
    text = console.export_text()
    assert "99 % interval" in text
    assert "5 comparisons (Holm)" in text
    assert all(metric in text for metric in METRICS)


def test_who_comes_back_is_compared_like_any_other_metric(listens: list[Listen]) -> None:
    spread = [e._replace(timestamp_ms=e.timestamp_ms * 40_000 * (1 + e.user % 2)) for e in listens]
    table = analysed(spread, Analysis(retention_days=[1])).results.table.set_index("metric")
    assert table.index[-1] == "retention_day_1"
    assert 0 <= table.loc["retention_day_1", "treatment_mean"] <= 1
    assert 0 < table.loc["retention_day_1", "control_users"] <= table.loc["time", "control_users"]
