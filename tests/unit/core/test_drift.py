"""Invariant: an alarm follows a change for the worse, once, and neither chance nor a daily rhythm gives one."""

import numpy as np
import pytest

from botify.core.drift import BLOCK_MS, BLOCK_VALUES, MOST_BLOCKS, Watch, drift_metrics

HOURS = 2_000


def watched(
    side: int, *means: float, rhythm: float = 0.0, seed: int = 1, hours: int = HOURS
) -> tuple[Watch, list[int]]:
    """Watch a share that has each mean for as many hours; return also the hours of alarms."""
    generator, watch, found = np.random.default_rng(seed), Watch(side), list[int]()
    for hour in range(hours * len(means)):
        mean = means[hour // hours] + rhythm * np.sin(2 * np.pi * hour / 24)
        before = watch.alarms
        watch.add(generator.random(2 * BLOCK_VALUES) < mean, hour * BLOCK_MS)
        found += [hour] * (watch.alarms - before)
    return watch, found


@pytest.mark.parametrize("rhythm", [0.0, 0.1])
@pytest.mark.parametrize("side", [-1, 0, 1])
def test_chance_and_the_rhythm_of_a_day_give_no_alarm(side: int, rhythm: float) -> None:
    for seed in range(3):
        assert watched(side, 0.5, rhythm=rhythm, seed=seed)[1] == []


@pytest.mark.parametrize(
    ("side", "after", "alarms"),
    [(1, 0.3, 1), (1, 0.7, 0), (-1, 0.7, 1), (-1, 0.3, 0), (0, 0.3, 1), (0, 0.7, 1), (1, 0.49, 0)],
)
def test_a_change_for_the_worse_is_reported_once_and_soon(side: int, after: float, alarms: int) -> None:
    watch, found = watched(side, 0.5, after, hours=200)
    assert len(found) == alarms == watch.alarms
    assert all(200 <= hour < 210 for hour in found)


def test_a_second_change_is_reported_and_the_memory_is_bounded() -> None:
    watch, found = watched(1, 0.7, 0.5, 0.3, hours=2 * MOST_BLOCKS)
    assert len(found) == 2, found
    assert len(watch._blocks) == MOST_BLOCKS


def test_fallbacks_where_there_were_none() -> None:
    watch = Watch(side=-1)
    for hour in range(100):
        watch.add([hour >= 80] * BLOCK_VALUES, hour * BLOCK_MS)
        watch.add([np.nan], hour * BLOCK_MS)
    assert (watch.alarms, watch.reference) == (1, 0.0)


def test_a_block_needs_values_and_time() -> None:
    watch = Watch(side=1)
    watch.add(np.zeros(100 * BLOCK_VALUES), 0)
    watch.add(np.ones(1), BLOCK_MS - 1)
    assert not watch._blocks
    watch.add(np.ones(1), BLOCK_MS)
    assert len(watch._blocks) == 1


def test_metrics_exist_before_the_first_alarm() -> None:
    (alarms,) = [one for one in drift_metrics({"quality": Watch(1)}) if one.name == "botify_drift_alarms"]
    assert [(sample.labels, sample.value) for sample in alarms.samples if sample.name.endswith("_total")] == [
        ({"signal": "quality"}, 0)
    ]
