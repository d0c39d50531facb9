from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analytics.assignment import Assignment
from analytics.errors import AnalyticsError
from analytics.monitoring import running_difference, settled_users
from analytics.statistics.sequence import ConfidenceSequence
from core.welch import Sample


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
