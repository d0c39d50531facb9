from __future__ import annotations

import io
from collections import defaultdict
from statistics import fmean

import numpy as np
import pytest
from rich.console import Console
from scipy import stats
from statsmodels.stats.multitest import multipletests

from analytics.assignment import METRICS, assign
from analytics.data import listens_frame
from analytics.errors import AnalyticsError
from analytics.experiment import experiment_results
from analytics.render import render_table
from schemas.events import Listen
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


def test_a_table_by_hand() -> None:
    # C hears 1, 2, 3 and T1 hears 3, 4, 5: both vary by 1, so the error is sqrt(2/3), with 4 degrees of freedom
    listens = []
    for user, heard in enumerate((1, 2, 3, 3, 4, 5)):
        treatment = {"demo": "C" if user < 3 else "T1"}
        for position in range(heard + 1):
            fraction = float(position > 0)
            listens.append(listen(f"r-{user}-0", position, fraction=fraction, treatments=treatment if position else {}))
    time = next(e for e in experiment_results(listens_frame(listens), "demo").effects if e.metric == "time")
    half = 2.7764451051977987 * (2 / 3) ** 0.5
    assert (time.control_mean, time.treatment_mean, time.effect) == (2.0, 4.0, 100.0)
    assert time.lower == pytest.approx(100 - 50 * half, rel=1e-9)
    assert time.upper == pytest.approx(100 + 50 * half, rel=1e-9)


def test_the_treatment_is_that_of_any_listen_that_has_one() -> None:
    users = assign(listens_frame([listen("r-1-0"), listen("r-1-0", 1), listen("r-2-0")]), "demo").users
    assert users["treatment"].to_dict() == {1: "C"}
    assert users["since_ms"].to_dict() == {1: 1}


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
    with pytest.raises(AnalyticsError, match="no experiment at all"):
        experiment_results(listens_frame([listen()]), "demo")


def test_an_unknown_control_names_the_treatments() -> None:
    frame = listens_frame([listen("r-1-0", 1), listen("r-2-0", 1, treatments={"demo": "T1"})])
    with pytest.raises(AnalyticsError, match=r"control 'A' .* C, T1"):
        experiment_results(frame, "demo", control="A")


def test_the_drawn_table_says_it_all() -> None:
    results = experiment_results(listens_frame(drawn(200, np.random.default_rng(3), uplift=5.0)), "demo")
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(render_table(results))
    text = console.export_text()
    assert all(metric in text for metric in METRICS)
    assert "100 in C, 100 in T1" in text
    assert "yes" in text


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
