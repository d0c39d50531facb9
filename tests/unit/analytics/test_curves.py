"""Session curves against plain loops."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analytics.data import listens_frame
from analytics.sessions import fraction_by_position, sessions_of, still_listening
from tests.unit.analytics.listens import drawn


def product_limit(sessions: pd.DataFrame, most: int) -> list[float]:
    curve, left = [1.0], 1.0
    for k in range(1, most + 1):
        reached = sessions[sessions["tracks"] >= k]
        left *= 1 - (reached["ended"] & (reached["tracks"] == k)).sum() / len(reached) if len(reached) else np.nan
        curve.append(left)
    return curve


@pytest.mark.parametrize("unseen", [0.0, 0.3])
def test_the_curve_is_the_product_limit_estimator(unseen: float) -> None:
    rng = np.random.default_rng(7)
    sessions = sessions_of(listens_frame(drawn(300, rng))).assign(treatment="C")
    sessions["ended"] &= rng.random(len(sessions)) >= unseen
    curve = still_listening(sessions, most=15)["C"]
    assert curve.to_numpy() == pytest.approx(product_limit(sessions, 15), nan_ok=True)
    if not unseen:  # then it is a plain share
        shares = [(sessions["tracks"] > k).mean() for k in range(16)]
        assert curve.fillna(0.0).to_numpy() == pytest.approx(shares)


def test_a_session_that_was_cut_off_does_not_count_as_one_that_ended() -> None:
    sessions = pd.DataFrame({"treatment": "C", "tracks": [2, 2, 5, 5], "ended": [True, False, True, True]})
    assert still_listening(sessions, most=3)["C"].tolist() == [1.0, 1.0, 0.75, 0.75]


def test_what_is_heard_leaves_the_own_choice_out() -> None:
    listens = listens_frame(drawn(50, np.random.default_rng(8))).assign(treatment="C")
    means = fraction_by_position(listens, most=4)["C"]
    assert means.index.tolist() == [1, 2, 3, 4]
    assert means[2] == pytest.approx(listens[listens["position"] == 2]["fraction"].mean())
