from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analytics.errors import AnalyticsError
from analytics.offline.ranking import temporal_split


def test_everything_before_one_moment_is_the_past() -> None:
    times = np.random.default_rng(10).integers(0, 300, 1_000)
    past, future = temporal_split(pd.DataFrame({"timestamp_ms": times}), 0.25)
    assert past["timestamp_ms"].max() < future["timestamp_ms"].min()
    assert len(past) + len(future) == 1_000
    assert len(future) == pytest.approx(250, abs=10)


@pytest.mark.parametrize(("times", "share"), [([], 0.5), ([1, 1, 1], 0.5), ([1, 2], 0.0), ([1, 2], 1.0)])
def test_what_cannot_be_split_is_refused(times: list[int], share: float) -> None:
    with pytest.raises(AnalyticsError):
        temporal_split(pd.DataFrame({"timestamp_ms": times}), share)
