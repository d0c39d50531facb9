"""Sessions, retention and curves against plain loops."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from botify.analytics.data import listens_frame
from botify.analytics.sessions import DAY_MS, fraction_by_position, retention, sessions_of, still_listening
from tests.unit.analytics.listens import drawn, listen


def test_a_session_that_was_cut_off_is_kept_unless_asked() -> None:
    frame = listens_frame([listen("r-1-0"), listen("r-1-0", 1, ended_session=True), listen("r-1-1")])
    assert sessions_of(frame)["ended"].tolist() == [True, False]
    assert sessions_of(frame, cut_off="drop")["session_id"].tolist() == ["r-1-0"]


def test_sums_do_not_depend_on_the_order_of_listens() -> None:
    listens = [listen("r-1-0"), listen("r-2-0"), listen("r-1-0", 1), listen("r-1-0", 2, latency_ms=4.0)]
    for frame in (listens_frame(listens), listens_frame(listens[::-1])):
        session = sessions_of(frame).set_index("user").loc[1]
        assert session[["started_ms", "ended_ms", "tracks", "time", "requests", "latency_ms"]].tolist() == [
            0, 2, 3, 1.5, 2, 6.0,
        ]  # fmt: skip


def test_a_session_belongs_to_its_user() -> None:
    frame = listens_frame([listen("r-1-0"), listen("r-1-0", user=2)])
    assert sessions_of(frame)["user"].tolist() == [1, 2]


HOUR_MS = DAY_MS // 24


def sessions(*rows: tuple[int, int]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["user", "started_ms"])
    return frame.assign(ended_ms=frame["started_ms"])


def test_a_day_begins_24_hours_after_the_user_came() -> None:
    late = 23 * HOUR_MS
    came = sessions((1, late), (1, late + 2 * HOUR_MS), (2, late), (2, late + 25 * HOUR_MS), (3, 3 * DAY_MS))
    assert retention(came, [1])["retention_day_1"].iloc[:2].tolist() == [0.0, 1.0]


@pytest.mark.parametrize(("ends_ms", "expected"), [(2 * DAY_MS - 1, np.nan), (2 * DAY_MS, 0.0)])
def test_a_day_counts_once_it_is_over(ends_ms: int, expected: float) -> None:
    found = retention(sessions((1, 0), (2, ends_ms)), [1]).loc[1, "retention_day_1"]
    assert found == pytest.approx(expected, nan_ok=True)


def test_shares_are_those_that_were_drawn() -> None:
    rng = np.random.default_rng(6)
    rows = [(user, 0) for user in range(5_000)]
    rows += [
        (user, day * DAY_MS)
        for day, share in ((1, 0.6), (7, 0.2))
        for user in rng.permutation(5_000)[: int(5_000 * share)]
    ]
    found = retention(sessions(*rows, (9_999, 20 * DAY_MS)), [1, 7]).mean()
    assert found.tolist() == pytest.approx([0.6, 0.2])


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
