from __future__ import annotations

import numpy as np

from analytics.assignment import METRICS, assign, metrics_before, user_metrics
from analytics.data import listens_frame
from analytics.experiment import effects_of
from analytics.monitoring import adjust
from analytics.sessions import sessions_of
from schemas.events import Listen
from tests.unit.analytics.listens import listen


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
