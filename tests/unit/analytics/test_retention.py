from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analytics.sessions import DAY_MS, retention

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
