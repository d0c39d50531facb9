"""Invariant: the gate's shares are probabilities, nobody untried gets many sessions, and the best policy gets most."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.recommender import gate as module
from services.recommender.gate import ENOUGH, FLOOR, REFRESH_S, TRIAL, Gate, shares
from streams.folds.policy_results import PolicyResult

POLICIES = ("plain", "worse", "better")
MEANS = {"plain": 4.0, "worse": 2.0, "better": 12.0}


def result_of(sessions: float, mean: float) -> PolicyResult:
    return PolicyResult(time=sessions * mean, ends=sessions)


@given(st.lists(st.tuples(st.floats(0, 5_000), st.floats(0, 100)), min_size=1, max_size=6))
def test_shares_add_up_and_leave_nobody_out(results: list[tuple[float, float]]) -> None:
    found = shares([result_of(*one) for one in results])
    assert found.sum() == pytest.approx(1.0)
    assert (found >= FLOOR).all()


def test_who_is_hardly_known_is_only_tried_however_lucky() -> None:
    found = shares([result_of(500, 4.0), result_of(ENOUGH - 1, 90.0), result_of(0, 0.0)])
    assert found.tolist() == pytest.approx([1 - 2 * TRIAL, TRIAL, TRIAL])


def test_what_nobody_can_tell_apart_is_shared() -> None:
    found = shares([result_of(100, 5.0), result_of(100, 5.0)])
    assert found[0] == pytest.approx(0.5, abs=0.05)


def play(results: dict[str, PolicyResult], means: dict[str, float], sessions: int, seed: int) -> float:
    """Let sessions come to an exponential time around their policy's mean, and return the mean of all."""
    rng, times = np.random.default_rng(seed), []
    for begin in range(0, sessions, 50):
        share = shares([results[name] for name in POLICIES])
        for policy in rng.choice(len(POLICIES), size=min(50, sessions - begin), p=share).tolist():
            time = rng.exponential(means[POLICIES[policy]])
            results[POLICIES[policy]].time += time
            results[POLICIES[policy]].end()
            times.append(time)
    return float(np.mean(times))


def test_the_best_policy_wins_and_a_bad_one_costs_little() -> None:
    results = {name: PolicyResult() for name in POLICIES}
    play(results, MEANS, 2_000, seed=1)
    later = play(results, MEANS, 2_000, seed=2)
    assert later > 0.9 * MEANS["better"]


def test_untrained_policies_cost_less_than_their_trials() -> None:
    nothing = {"plain": 4.0, "worse": 0.5, "better": 0.5}
    results = {name: PolicyResult() for name in POLICIES}
    assert play(results, nothing, 4_000, seed=1) > (1 - 2 * TRIAL) * nothing["plain"] - 0.2


def test_when_the_best_gets_bad_another_takes_over() -> None:
    results = {name: PolicyResult() for name in POLICIES}
    play(results, MEANS, 3_000, seed=1)
    turned = MEANS | {"better": 1.0, "plain": 8.0}
    play(results, turned, 6_000, seed=2)
    share = dict(zip(POLICIES, shares([results[name] for name in POLICIES]).tolist(), strict=True))
    assert share["plain"] > 0.9


def test_results_are_read_once_a_second_at_most() -> None:
    now, reads = [0.0], []

    def results() -> dict[str, PolicyResult]:
        reads.append(now[0])
        return {"mix/b": result_of(1_000, 9.0), "mix/a": result_of(1_000, 3.0)}

    gate = Gate("mix", ["a", "b"], results, lambda: now[0])
    for now[0] in (0.0, REFRESH_S / 2, REFRESH_S, REFRESH_S * 1.5):
        assert gate.shares().tolist() == pytest.approx([FLOOR, 1 - FLOOR])
    assert reads == [0.0, REFRESH_S]


def test_equal_results_give_equal_shares() -> None:
    one = [result_of(30, 4.0), result_of(40, 4.4)]
    assert shares(one).tolist() == shares(one).tolist()
    assert module.DRAWS >= 1_000
