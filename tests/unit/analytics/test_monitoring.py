"""CUPED, interactions and repeated looks at an experiment's users."""

import io

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from botify.analytics import AnalyticsError
from botify.analytics.assignment import METRICS, Assignment, assign, metrics_before, user_metrics
from botify.analytics.cli import render_interactions
from botify.analytics.data import listens_frame
from botify.analytics.experiment import effects_of
from botify.analytics.monitoring import Interactions, adjust, interactions_of, running_difference, settled_users
from botify.analytics.sessions import sessions_of
from botify.analytics.statistics import ConfidenceSequence
from botify.core.welch import Sample
from botify.schemas.events import Listen
from tests.unit.analytics.listens import drawn, listen


def sessions_at(*rows: tuple[int, int]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["user", "started_ms"])
    return frame.assign(ended_ms=frame["started_ms"] + 1, tracks=2, time=1.0, requests=1, latency_ms=3.0)


def test_users_count_once_their_window_is_over_with_what_began_in_it() -> None:
    since = {1: 100, 2: 50, 3: 180}
    users = pd.DataFrame({"treatment": pd.Categorical(["C", "T1", "C"]), "since_ms": since.values()}, index=list(since))
    sessions = sessions_at((1, 100), (1, 199), (1, 200), (2, 50), (3, 180))
    settled = settled_users(sessions, Assignment(users, until_ms=210, mixed=0), window_ms=100)
    assert settled.index.tolist() == [2, 1]  # in the order of entering
    assert settled["sessions"].tolist() == [1, 2]


def test_the_last_look_is_the_plain_comparison() -> None:
    rng = np.random.default_rng(7)
    users = pd.DataFrame({"treatment": rng.choice(["C", "T1", "T2"], 600), "time": rng.gamma(2.0, size=600)})
    sequence = ConfidenceSequence(tuned_for=300)
    looks = running_difference(users, "time", "C", "T1", sequence)
    arms = [Sample.of(users["time"][users["treatment"] == name]) for name in ("C", "T1")]
    last = sequence.difference(*arms)
    assert looks.iloc[-1].tolist() == pytest.approx([last.estimate, last.lower, last.upper], rel=1e-9)
    assert np.isneginf(looks["lower"].iloc[0])
    assert np.isposinf(looks["upper"].iloc[0])


def test_a_treatment_that_nobody_had_is_refused() -> None:
    users = pd.DataFrame({"treatment": ["C", "C"], "time": [1.0, 2.0]})
    with pytest.raises(AnalyticsError, match="'T1'"):
        running_difference(users, "time", "C", "T1", ConfidenceSequence())


def with_a_past(users: int, rng: np.random.Generator) -> list[Listen]:
    """Faithful listeners listen longer, before the experiment and in it; T1 adds a track to each session."""
    listens = []
    for user in range(users):
        taste = int(rng.integers(2, 12))
        for number in range(6):
            treatment = "T1" if user % 2 else "C"
            treated = number >= 3
            tracks = taste + int(rng.integers(0, 2)) + (treated and treatment == "T1")
            for position in range(tracks):
                time = {"timestamp_ms": number * 1_000_000 + position}
                treatments = {"demo": treatment} if treated and position else {}
                listens.append(listen(f"r-{user}-{number}", position, treatments=treatments, **time))
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


def with_a_second(listens: list[Listen], bonus: float = 0.0) -> list[Listen]:
    """Put every user into `other` too; those treated in both hear more of each track."""
    changed = []
    for one in listens:
        arm = "T1" if one.user // 2 % 2 else "C"
        both = arm == "T1" and one.treatments.get("demo") == "T1"
        treated = one._replace(
            treatments={**one.treatments, "other": arm}, fraction=min(1.0, one.fraction + bonus * both)
        )
        changed.append(treated if one.treatments else one)
    return changed


def found(listens: list[Listen]) -> Interactions:
    frame = listens_frame(listens)
    return interactions_of(sessions_of(frame), assign(frame, "demo"), assign(frame, "other"))


def test_what_only_both_together_do_is_found_and_said() -> None:
    interactions = found(with_a_second(drawn(400, np.random.default_rng(2)), bonus=0.6))
    assert "mean_time_per_session" in interactions.found()
    assert "sessions" not in interactions.found()
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(render_interactions("demo", "other", interactions))
    assert "they interact in: " in console.export_text()


def test_experiments_that_share_nobody_are_refused() -> None:
    listens = drawn(40, np.random.default_rng(4))
    apart = [e._replace(treatments={"other": "C"}) if e.treatments and e.user < 20 else e for e in listens]
    with pytest.raises(AnalyticsError, match="no user takes part in both"):
        found(apart)
