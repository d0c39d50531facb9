"""Invariant: workers add up until Redis or the machine is full, and one without a partition changes nothing."""

from __future__ import annotations

import pytest

from botify.bench.scale import rows_of
from botify.bench.sizing import Folding, predict
from botify.bench.worker import Drained

ALONE = {1: Folding(100_000, 2.0), 2: Folding(150_000, 2.0), 4: Folding(160_000, 2.0)}
FULL = Folding(230_000, 2.5)
ROOMY = Folding(1e9, 2.0)


def test_idle_workers_change_nothing() -> None:
    assert predict(ALONE, FULL, workers=4, partitions=1) == predict(ALONE, FULL, workers=1, partitions=1)
    assert predict(ALONE, FULL, workers=4, partitions=2) == predict(ALONE, FULL, workers=2, partitions=2)


def test_workers_who_wait_for_each_other_at_redis_are_slower_than_alone() -> None:
    rate, bound = predict(ALONE, ROOMY, workers=2, partitions=2)
    others = rate / 2 * 2.0e-6
    assert rate == pytest.approx(2 / (1 / 100_000 + others * 2.0e-6))
    assert bound == "waits"
    assert predict({1: Folding(100_000, 0.0)}, ROOMY, 2, 2).listens_per_s == pytest.approx(200_000)


def test_the_cores_of_the_machine_bound_all_workers_together() -> None:
    assert predict(ALONE, FULL, workers=2, partitions=4) == (230_000, "cores")


def test_redis_bounds_all_workers_together() -> None:
    assert predict({1: Folding(100_000, 8.0)}, ROOMY, workers=4, partitions=4) == (125_000, "redis")


def test_the_table_compares_only_what_the_model_was_not_calibrated_with() -> None:
    cpu_us = {"worker": 3.0, "kafka": 1.0, "valkey": 2.0, "all": 6.0}
    rates = {(1, 1): 100_000.0, (1, 2): 150_000.0, (1, 4): 160_000.0, (2, 1): 80_000.0, (2, 2): 190_000.0}
    rates |= {(4, 1): 100_000.0, (4, 2): 190_000.0, (2, 4): 230_000.0, (4, 4): 230_000.0}
    rows = rows_of({of: Drained(rate, cpu_us, []) for of, rate in rates.items()})
    assert [name for name, row in rows.items() if row["predicted"] is None] == ["1 × 1", "1 × 2", "1 × 4", "4 × 4"]
    assert rows["2 × 1"]["error_percent"] == pytest.approx(25.0)
    assert rows["2 × 1"]["cores"] == pytest.approx(0.48)
    assert rows["2 × 4"]["bound"] == "cores"
