"""Invariant: the bandit's shares are probabilities, the untried get few sessions, and the best policy gets most."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from botify.services.recommender.bandit import FLOOR, JUDGED, REFRESH_S, TRIAL, Bandit, shares
from botify.streams.folds.reference import PolicyResults
from botify.streams.folds.sessions import PolicyResult

POLICIES = ("mix/plain", "mix/worse", "mix/better")
MEANS = {"mix/plain": 4.0, "mix/worse": 2.0, "mix/better": 12.0}


def result_of(sessions: float, mean: float) -> PolicyResult:
    return PolicyResult(time=sessions * mean, ends=sessions)


@given(st.lists(st.tuples(st.floats(0, 5_000), st.floats(0, 100)), min_size=1, max_size=6))
def test_shares_add_up_and_leave_nobody_out(results: list[tuple[float, float]]) -> None:
    found = shares([result_of(*one) for one in results])
    assert found.sum() == pytest.approx(1.0)
    assert found[0] >= (FLOOR if len(found) > 1 else 1.0)
    known = np.array([ends for ends, _ in results[1:]])
    assert (found[1:] >= TRIAL / max(len(found) - 1, 1) * JUDGED / (JUDGED + known) - 1e-12).all()


def test_what_nobody_can_tell_apart_is_shared() -> None:
    found = shares([result_of(100, 5.0), result_of(100, 5.0)])
    tried = TRIAL * JUDGED / (JUDGED + 100)
    assert found[0] == pytest.approx(FLOOR + (1 - FLOOR - tried) / 2, abs=0.05)


class Service:
    """Sessions that come to an exponential time around their policy's mean."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._folded = PolicyResults(half_life_sessions=4_000)
        self._results = {name: PolicyResult() for name in POLICIES}

    def shares(self) -> list[float]:
        found: list[float] = shares([self._results[name] for name in POLICIES]).tolist()
        return found

    def play(self, means: dict[str, float], sessions: int) -> float:
        times = []
        for begin in range(0, sessions, 50):
            drawn = self._rng.choice(POLICIES, size=min(50, sessions - begin), p=self.shares())
            for policy in drawn.tolist():
                times.append(self._rng.exponential(means[policy]))
                self._folded.heard(policy, times[-1])
                self._folded.end(policy)
            for name, record in self._folded.take_changes().items():
                self._results[name.decode()] = PolicyResult.from_bytes(record)
        return float(np.mean(times))


def test_untrained_policies_cost_less_than_their_trials() -> None:
    nothing = {"mix/plain": 4.0, "mix/worse": 0.5, "mix/better": 0.5}
    assert Service(seed=1).play(nothing, 4_000) > (1 - TRIAL) * nothing["mix/plain"] - 0.2


def test_the_share_of_trials_shrinks_with_what_is_known() -> None:
    """A policy that stays worse costs less the longer it does, and none is given up."""
    service, worse = Service(seed=1), {"mix/plain": 4.0, "mix/worse": 2.0, "mix/better": 2.0}
    service.play(worse, 12_000)
    assert 0.1 < 1 - service.shares()[0] < 0.75 * TRIAL


def test_the_best_policy_has_nearly_all_sessions() -> None:
    service = Service(seed=1)
    service.play(MEANS, 12_000)
    assert service.play(MEANS, 4_000) > 0.9 * MEANS["mix/better"]


def test_one_that_gets_better_while_it_is_hardly_used_is_found() -> None:
    service = Service(seed=1)
    service.play(MEANS | {"mix/worse": 10.0}, 4_000)
    service.play(MEANS | {"mix/better": 20.0, "mix/worse": 25.0}, 30_000)
    assert service.shares()[POLICIES.index("mix/worse")] > 0.75


def test_results_are_read_once_a_second_at_most() -> None:
    now, reads = [0.0], []

    def results() -> dict[str, PolicyResult]:
        reads.append(now[0])
        return {"mix/b": result_of(1_000, 9.0), "mix/a": result_of(1_000, 3.0)}

    bandit = Bandit("mix", ["a", "b"], results, lambda: now[0])
    for now[0] in (0.0, REFRESH_S / 2, REFRESH_S, REFRESH_S * 1.5):
        assert bandit.shares().tolist() == pytest.approx([FLOOR, 1 - FLOOR])
    assert reads == [0.0, REFRESH_S]
