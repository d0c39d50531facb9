"""Two experiments on the same listeners."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

from analytics.assignment import METRICS, assign, user_metrics
from analytics.data import listens_frame
from analytics.errors import AnalyticsError
from analytics.monitoring import Interactions, interactions_of
from analytics.render import render_interactions
from analytics.sessions import sessions_of
from analytics.statistics.cuped import interaction
from schemas.events import Listen
from tests.unit.analytics.listens import drawn


def with_a_second(listens: list[Listen], bonus: float = 0.0) -> list[Listen]:
    """Put every user into `other` too; those treated in both hear more of each track."""
    changed = []
    for listen in listens:
        if listen.treatments:
            arm = "T1" if listen.user // 2 % 2 else "C"
            both = arm == "T1" and listen.treatments["demo"] == "T1"
            listen = listen._replace(
                treatments={**listen.treatments, "other": arm}, fraction=min(1.0, listen.fraction + bonus * both)
            )
        changed.append(listen)
    return changed


def found(listens: list[Listen]) -> Interactions:
    frame = listens_frame(listens)
    return interactions_of(sessions_of(frame), assign(frame, "demo"), assign(frame, "other"))


def test_the_test_is_that_of_the_users_metrics() -> None:
    listens = with_a_second(drawn(400, np.random.default_rng(1), uplift=1.0))
    interactions = found(listens)
    frame = listens_frame(listens)
    users = user_metrics(sessions_of(frame), assign(frame, "demo"))
    expected = interaction(users["time"], users["treatment"], users.index.to_numpy() // 2 % 2)
    assert interactions.users == 400
    assert tuple(interactions.table.loc["time", ["statistic", "df", "p_value"]]) == pytest.approx(expected, rel=1e-9)
    assert interactions.found() == []


def test_what_only_both_together_do_is_found_and_said() -> None:
    interactions = found(with_a_second(drawn(400, np.random.default_rng(2)), bonus=0.6))
    assert "mean_time_per_session" in interactions.found()
    assert "sessions" not in interactions.found()
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(render_interactions("demo", "other", interactions))
    assert "the one changes what the other does" in console.export_text()


def test_a_metric_that_cannot_be_tested_counts_for_nothing() -> None:
    listens = [e._replace(latency_ms=None) for e in with_a_second(drawn(200, np.random.default_rng(3)))]
    table = found(listens).table
    assert table.index.tolist() == list(METRICS)
    assert table["p_value"].isna().tolist() == [False, False, False, False, True]


def test_experiments_that_share_nobody_are_refused() -> None:
    listens = drawn(40, np.random.default_rng(4))
    apart = [e._replace(treatments={"other": "C"}) if e.treatments and e.user < 20 else e for e in listens]
    with pytest.raises(AnalyticsError, match="no user takes part in both"):
        found(apart)
