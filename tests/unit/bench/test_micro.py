"""The measurement of retrieval, on few tracks."""

from __future__ import annotations

import pytest

from botify.bench import micro
from botify.services.recommender import clusters


def test_more_clusters_find_more_of_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "MOST_CLUSTERS", 40)
    monkeypatch.setattr(micro, "OWN", 1.0)
    found = micro.measure_retrieval(tracks=8_400, sessions=20, seconds=0.1)
    assert found["recall_of_four_cells"] < found["recall"]
    assert found["request_us"] > 0
    assert found["p99_ms"] > 0
