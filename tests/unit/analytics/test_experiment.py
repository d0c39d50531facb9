"""Effects of experiments, from listens to the table."""

import io
from collections import defaultdict
from statistics import fmean

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy import stats
from statsmodels.stats.multitest import multipletests

from botify.analytics import AnalyticsError
from botify.analytics.assignment import METRICS, assign
from botify.analytics.cli import render_table
from botify.analytics.data import listens_frame
from botify.analytics.experiment import HOUR_MS, Analysed, Analysis, analyse, experiment_results
from botify.analytics.sessions import sessions_of
from botify.schemas.events import Listen
from tests.unit.analytics.listens import drawn, listen


def plain_metrics(listens: list[Listen]) -> dict[str, dict[str, list[float]]]:
    """Botify's metrics with loops: treatment -> metric -> a value for each user."""
    sessions: dict[int, dict[str, list[Listen]]] = defaultdict(lambda: defaultdict(list))
    for event in listens:
        sessions[event.user][event.session_id].append(event)
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for of_user in sessions.values():
        heard = [event for events in of_user.values() for event in events]
        (treatment,) = {event.treatments["demo"] for event in heard if event.treatments}
        time = sum(event.fraction for event in heard)
        values[treatment]["time"].append(time)
        values[treatment]["sessions"].append(len(of_user))
        values[treatment]["mean_tracks_per_session"].append(len(heard) / len(of_user))
        values[treatment]["mean_time_per_session"].append(time / len(of_user))
        values[treatment]["mean_request_latency"].append(
            fmean(event.latency_ms for event in heard if event.latency_ms is not None)
        )
    return values


@pytest.mark.parametrize("seed", range(3))
def test_the_table_equals_loops_and_scipy(seed: int) -> None:
    listens = drawn(60, np.random.default_rng(seed), uplift=3.0)
    expected = plain_metrics(listens)
    results = experiment_results(listens_frame(listens), "demo")
    assert [effect.metric for effect in results.effects] == list(METRICS)
    for effect in results.effects:
        control, treatment = expected["C"][effect.metric], expected["T1"][effect.metric]
        test = stats.ttest_ind(treatment, control, equal_var=False)
        interval = test.confidence_interval(0.95)
        assert effect.control_mean == pytest.approx(fmean(control), rel=1e-9)
        assert effect.treatment_mean == pytest.approx(fmean(treatment), rel=1e-9)
        assert effect.lower == pytest.approx(interval.low / fmean(control) * 100, rel=1e-9)
        assert effect.upper == pytest.approx(interval.high / fmean(control) * 100, rel=1e-9)
        assert effect.significant == (test.pvalue < 0.05)
    assert results.table["metric"].tolist() == list(METRICS)


def test_a_user_seen_in_two_treatments_is_left_out_and_counted() -> None:
    other = listen("r-1-0", 2, treatments={"demo": "T1"})
    assignment = assign(listens_frame([listen("r-1-0", 1), other, listen("r-2-0", 1)]), "demo")
    assert assignment.users.index.tolist() == [2]
    assert assignment.mixed == 1


def test_sessions_before_and_after_the_experiment_do_not_count() -> None:
    listens = [
        listen("r-1-0", timestamp_ms=0),
        listen("r-1-1", timestamp_ms=10),
        listen("r-1-1", 1, timestamp_ms=11),
        listen("r-1-2", timestamp_ms=12),  # came back and left at once: part of the effect
        listen("r-2-0", 1, timestamp_ms=20, treatments={"demo": "T1"}),
        listen("r-1-3", timestamp_ms=30),
    ]
    users = experiment_results(listens_frame(listens), "demo").users
    assert users["sessions"].to_dict() == {1: 2, 2: 1}


def test_experiments_on_the_same_users_do_not_disturb_each_other() -> None:
    listens = drawn(40, np.random.default_rng(5))
    alone = experiment_results(listens_frame(listens), "demo").effects
    both = [e._replace(treatments={**e.treatments, "other": f"T{e.user % 3}"} if e.treatments else {}) for e in listens]
    assert experiment_results(listens_frame(both), "demo").effects == alone


def test_an_unknown_experiment_names_those_there_are() -> None:
    frame = listens_frame([listen(position=1)])
    with pytest.raises(AnalyticsError, match=r"'dmeo'; the data has demo"):
        experiment_results(frame, "dmeo")
    with pytest.raises(AnalyticsError, match="the data has no experiments"):
        experiment_results(listens_frame([listen()]), "demo")


def test_an_unknown_control_names_the_treatments() -> None:
    frame = listens_frame([listen("r-1-0", 1), listen("r-2-0", 1, treatments={"demo": "T1"})])
    with pytest.raises(AnalyticsError, match=r"control 'A' .* C, T1"):
        experiment_results(frame, "demo", control="A")


def test_more_rows_ask_for_more_certainty() -> None:
    effects = experiment_results(listens_frame(drawn(60, np.random.default_rng(1), uplift=1.0)), "demo").effects
    expected = multipletests([effect.p_value for effect in effects], method="holm")[1]
    assert [effect.p_holm for effect in effects] == pytest.approx(expected, abs=1e-12)


def test_a_broken_split_is_said_aloud() -> None:
    listens = [event for event in drawn(200, np.random.default_rng(4)) if event.user % 2 == 0 or event.user < 100]
    results = experiment_results(listens_frame(listens), "demo")
    assert results.ratio.observed == {"C": 100, "T1": 50}
    assert "sample-ratio mismatch" in str(render_table(results).caption)
    declared = experiment_results(listens_frame(listens), "demo", split={"C": 2, "T1": 1})
    assert "mismatch" not in str(render_table(declared).caption)


def analysed(listens: list[Listen], analysis: Analysis) -> Analysed:
    frame = listens_frame(listens)
    return analyse("demo", sessions_of(frame), assign(frame, "demo"), analysis)


@pytest.fixture(scope="module")
def listens() -> list[Listen]:
    return drawn(300, np.random.default_rng(1), uplift=0.7)


def widths(results: Analysed) -> pd.Series:
    table = results.results.table
    return (table["upper"] - table["lower"]).set_axis(table["metric"])


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
