"""Sessions, retention and curves against plain loops."""

import numpy as np
import pandas as pd
import pytest

from botify.analytics.data import concat_listens, drop_copies, listens_frame, of_run
from botify.analytics.sessions import DAY_MS, fraction_by_position, retention, sessions_of, still_listening
from tests.unit.analytics.listens import drawn, listen


def test_sums_do_not_depend_on_the_order_of_listens() -> None:
    others = [listen("r-2-0"), listen("r-1-0", user=3)]  # the last session has the id of another user's
    listens = [listen("r-1-0"), *others, listen("r-1-0", 1), listen("r-1-0", 2, latency_ms=4.0)]
    for frame in (listens_frame(listens), listens_frame(listens[::-1])):
        session = sessions_of(frame).set_index("user").loc[1]
        columns = ["started_ms", "ended_ms", "tracks", "time", "requests", "latency_ms"]
        assert session[columns].tolist() == [0, 2, 3, 1.5, 2, 6.0]


def sessions(*rows: tuple[int, int]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["user", "started_ms"])
    return frame.assign(ended_ms=frame["started_ms"])


def test_a_day_begins_24_hours_after_the_user_came() -> None:
    hour_ms = DAY_MS // 24
    late = 23 * hour_ms
    came = sessions((1, late), (1, late + 2 * hour_ms), (2, late), (2, late + 25 * hour_ms), (3, 3 * DAY_MS))
    assert retention(came, [1])["retention_day_1"].iloc[:2].tolist() == [0.0, 1.0]


@pytest.mark.parametrize(("ends_ms", "expected"), [(2 * DAY_MS - 1, np.nan), (2 * DAY_MS, 0.0)])
def test_a_day_counts_once_it_is_over(ends_ms: int, expected: float) -> None:
    found = retention(sessions((1, 0), (2, ends_ms)), [1]).loc[1, "retention_day_1"]
    assert found == pytest.approx(expected, nan_ok=True)


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


def test_what_is_heard_leaves_the_own_choice_out() -> None:
    listens = listens_frame(drawn(50, np.random.default_rng(8))).assign(treatment="C")
    means = fraction_by_position(listens, most=4)["C"]
    assert means.index.tolist() == [1, 2, 3, 4]
    assert means[2] == pytest.approx(listens[listens["position"] == 2]["fraction"].mean())


def test_concatenated_frames_equal_one_frame() -> None:
    listens = drawn(20, np.random.default_rng(2))
    parts = [listens_frame(listens[:7]), listens_frame([]), listens_frame(listens[7:])]
    joined, whole = concat_listens(parts), listens_frame(listens)
    assert isinstance(joined["session_id"].dtype, pd.CategoricalDtype)
    for name in whole.columns:
        assert joined[name].astype(object).equals(whole[name].astype(object)), name


def test_the_first_of_the_copies_stays() -> None:
    first, copy, other = listen(fraction=0.25), listen(fraction=0.75), listen(position=1)
    kept = drop_copies(listens_frame([first, other, copy]))
    assert kept["fraction"].to_dict() == {0: 0.25, 1: 0.5}


def test_a_run_is_not_another_whose_id_it_begins() -> None:
    frame = listens_frame([listen("a-1-0"), listen("a-1-0", 1), listen("ab-1-0"), listen("a-b-1-0")])
    assert of_run(frame, "a")["session_id"].tolist() == ["a-1-0", "a-1-0"]
    assert of_run(frame, "a-b")["session_id"].tolist() == ["a-b-1-0"]
