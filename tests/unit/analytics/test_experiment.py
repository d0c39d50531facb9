"""Effects of experiments, from listens to the table; CUPED, interactions and repeated looks."""

import numpy as np
import pandas as pd
import pytest

from botify.analytics import AnalyticsError
from botify.analytics.assignment import METRICS, Assignment, assign, metrics_before, user_metrics
from botify.analytics.cli import render_interactions, render_table
from botify.analytics.data import listens_frame
from botify.analytics.experiment import (
    HOUR_MS,
    Analysed,
    Analysis,
    Interactions,
    adjust,
    analyse,
    effects_of,
    experiment_results,
    interactions_of,
    running_difference,
    settled_users,
)
from botify.analytics.sessions import sessions_of
from botify.analytics.statistics import ConfidenceSequence, holm
from botify.core.welch import Sample
from botify.schemas.events import Listen
from tests.unit.analytics.listens import drawn, listen, with_a_second


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


def test_an_unknown_experiment_or_control_names_those_there_are() -> None:
    listens = [listen("r-1-0", 1), listen("r-2-0", 1, treatments={"demo": "T1"})]
    for given, experiment, control, message in (
        (listens, "demo", "A", r"control 'A' .* C, T1"),
        (listens, "dmeo", "C", r"'dmeo'; the data has demo"),
        ([listen()], "demo", "C", "the data has no experiments"),
    ):
        with pytest.raises(AnalyticsError, match=message):
            experiment_results(listens_frame(given), experiment, control=control)


def test_a_broken_split_is_said_aloud() -> None:
    everybody = drawn(200, np.random.default_rng(4))
    listens = listens_frame([event for event in everybody if event.user % 2 == 0 or event.user < 100])
    results = experiment_results(listens, "demo")
    assert results.ratio.observed == {"C": 100, "T1": 50}
    assert "sample-ratio mismatch" in str(render_table(results).caption)
    declared = experiment_results(listens, "demo", split={"C": 2, "T1": 1})
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


def test_more_confidence_is_a_wider_interval_and_the_drawn_table_says_it(listens: list[Listen]) -> None:
    strict = analysed(listens, Analysis(alpha=0.01, holm=True))
    assert (widths(strict) > widths(analysed(listens, Analysis()))).all()
    table = render_table(*strict, alpha=0.01)
    assert "99 % interval" in [column.header for column in table.columns]
    assert "5 comparisons (Holm)" in str(table.caption)


def test_holm_takes_significance_back(listens: list[Listen]) -> None:
    alpha = max(e.p_value for e in analysed(listens, Analysis()).results.effects) + 1e-9
    plain = analysed(listens, Analysis(alpha=alpha)).results.effects
    corrected = analysed(listens, Analysis(alpha=alpha, holm=True))
    assert [e.significant for e in plain] == [True] * 5
    assert [e.p_holm for e in plain] == pytest.approx(holm([e.p_value for e in plain]))
    significant = [e.metric for e in corrected.results.effects if e.significant]
    assert significant == [e.metric for e in plain if e.p_holm < alpha]
    assert 0 < len(significant) < 5
    assert corrected.notes == ["significance is corrected for 5 comparisons (Holm)"]


def test_intervals_that_hold_at_every_look_count_settled_users_and_are_wider() -> None:
    day = [e._replace(timestamp_ms=e.timestamp_ms * 40_000) for e in drawn(300, np.random.default_rng(3))]
    plain, looked_at = (analysed(day, Analysis(window_ms=w, tuned_for=200)) for w in (None, HOUR_MS))
    settled = len(looked_at.results.users)
    assert settled < 300
    assert looked_at.notes == [f"valid at every look: the first 1 h of each of {settled} listeners"]
    assert widths(looked_at)["mean_tracks_per_session"] > 1.4 * widths(plain)["mean_tracks_per_session"]


def test_who_comes_back_is_compared_like_any_other_metric(listens: list[Listen]) -> None:
    spread = [e._replace(timestamp_ms=e.timestamp_ms * 40_000 * (1 + e.user % 2)) for e in listens]
    table = analysed(spread, Analysis(retention_days=[1])).results.table.set_index("metric")
    assert table.index[-1] == "retention_day_1"
    assert 0 <= table.loc["retention_day_1", "treatment_mean"] <= 1
    assert 0 < table.loc["retention_day_1", "control_users"] <= table.loc["time", "control_users"]


def test_users_count_once_their_window_is_over_with_what_began_in_it() -> None:
    arms = pd.Categorical(["C", "T1", "C"])
    users = pd.DataFrame({"treatment": arms, "since_ms": [100, 50, 180]}, index=[1, 2, 3])
    sessions = pd.DataFrame({"user": [1, 1, 1, 2, 3], "started_ms": [100, 199, 200, 50, 180]})
    sessions = sessions.assign(ended_ms=sessions["started_ms"] + 1, tracks=2, time=1.0, requests=1, latency_ms=3.0)
    settled = settled_users(sessions, Assignment(users, until_ms=210, mixed=0), window_ms=100)
    assert list(settled["sessions"].items()) == [(2, 1), (1, 2)]  # in the order of entering


def test_every_look_is_the_plain_comparison_of_those_who_have_entered() -> None:
    rng = np.random.default_rng(7)
    users = pd.DataFrame({"treatment": rng.choice(["C", "T1", "T2"], 600), "time": 1e6 + rng.gamma(2.0, size=600)})
    sequence = ConfidenceSequence(tuned_for=300, burn_in=20)
    looks = running_difference(users, "time", "C", "T1", sequence)
    assert looks[["lower", "upper"]].iloc[0].tolist() == [-np.inf, np.inf]
    for user in looks.index[7::7]:
        entered = users.loc[:user]
        look = sequence.difference(*(Sample.of(entered["time"][entered["treatment"] == arm]) for arm in ("C", "T1")))
        assert looks.loc[user].tolist() == pytest.approx([look.estimate, look.lower, look.upper], abs=1e-6)


def test_a_treatment_that_nobody_had_is_refused() -> None:
    users = pd.DataFrame({"treatment": ["C", "C"], "time": [1.0, 2.0]})
    with pytest.raises(AnalyticsError, match="'T1'"):
        running_difference(users, "time", "C", "T1", ConfidenceSequence())


def with_a_past(users: int, rng: np.random.Generator) -> list[Listen]:
    """Faithful listeners listen longer, before the experiment and in it; T1 adds a track to each session."""
    listens = []
    for user in range(users):
        taste, arm = int(rng.integers(2, 12)), "T1" if user % 2 else "C"
        for number in range(6):
            treated = number >= 3
            for position in range(taste + int(rng.integers(0, 2)) + (treated and arm == "T1")):
                treatments, at_ms = {"demo": arm} if treated and position else {}, number * 1_000_000 + position
                listens.append(listen(f"r-{user}-{number}", position, treatments=treatments, timestamp_ms=at_ms))
    return listens


def test_the_past_explains_most_of_the_noise_and_none_of_the_effect() -> None:
    listens = listens_frame(with_a_past(200, np.random.default_rng(1)))
    assignment, sessions = assign(listens, "demo"), sessions_of(listens)
    users, before = user_metrics(sessions, assignment), metrics_before(sessions, assignment)
    assert before["sessions"].unique().tolist() == [3]
    assert users["sessions"].unique().tolist() == [3]
    adjusted = adjust(users, before)
    assert adjusted.variance_reduction["mean_tracks_per_session"] > 0.9
    assert list(adjusted.users.columns) == ["treatment", *METRICS]
    plain, better = (
        next(e for e in effects_of(u) if e.metric == "mean_tracks_per_session") for u in (users, adjusted.users)
    )
    assert better.upper - better.lower < 0.4 * (plain.upper - plain.lower)
    one_track = 100 / better.control_mean
    assert better.lower < one_track < better.upper


def found(listens: list[Listen]) -> Interactions:
    frame = listens_frame(listens)
    return interactions_of(sessions_of(frame), assign(frame, "demo"), assign(frame, "other"))


def test_what_only_both_together_do_is_found_and_said() -> None:
    interactions = found(with_a_second(drawn(400, np.random.default_rng(2)), bonus=0.6))
    assert "mean_time_per_session" in interactions.found()
    assert "sessions" not in interactions.found()
    table = render_interactions("demo", "other", interactions)
    assert table.title == "demo and other on the same 400 listeners"
    assert "they interact in: " in str(table.caption)


def test_experiments_that_share_nobody_are_refused() -> None:
    listens = drawn(40, np.random.default_rng(4))
    apart = [e._replace(treatments={"other": "C"}) if e.treatments and e.user < 20 else e for e in listens]
    with pytest.raises(AnalyticsError, match="no user takes part in both"):
        found(apart)
