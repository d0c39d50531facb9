"""Invariant: a draw depends on its key and number alone, and draws are even and unrelated."""

import numpy as np
import pytest
from scipy import stats

from botify.core.keyed_random import integers, keys_of_texts, mix, uniform

N = 20_000
SEQUENCES = {
    "consecutive keys": uniform(mix(7, np.arange(N)), 0),
    "consecutive draws": uniform(mix(7), np.arange(N)),
    "texts": uniform(keys_of_texts([f"session-{i}:0" for i in range(N)]), 0),
    "two parts": uniform(mix(7, np.arange(N) // 100, np.arange(N) % 100), 0),
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_draws_are_even_and_neighbours_unrelated(name: str) -> None:
    drawn = SEQUENCES[name]
    assert 0.0 <= drawn.min() < drawn.max() < 1.0
    assert stats.kstest(drawn, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 4 / np.sqrt(N)


def test_a_draw_does_not_depend_on_its_company() -> None:
    keys = keys_of_texts(["a", "b", "c"])
    together = uniform(keys, 5)
    for at in (2, 0, 1):
        assert uniform(keys[at : at + 1], 5)[0] == together[at]
    assert (uniform(keys[::-1], 5) == together[::-1]).all()


def test_the_numbers_are_the_same_in_every_version() -> None:
    """Recorded once: whoever changes them changes every simulation and every replayed answer."""
    assert mix(7, [0, 1]).tolist() == [1396195935952695341, 2895350052945382414]
    assert mix(7, 1, 2).tolist() == [538893085227749988]  # parts in another order are another key
    assert keys_of_texts(["a:0"]).tolist() == [10404224422164309796]


@pytest.mark.parametrize("below", [1, 2, 7, 1000])
def test_whole_numbers_stay_below_and_are_even(below: int) -> None:
    counts = np.bincount(integers(mix(3, np.arange(N)), 0, below), minlength=below)
    assert len(counts) == below
    if below > 1:
        assert stats.chisquare(counts).pvalue > 1e-3
