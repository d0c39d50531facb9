from __future__ import annotations

import numpy as np
import pytest

from botify.schemas.events import Listen
from botify.streams.folds.reference import PolicyResults
from botify.streams.folds.sessions import (
    HALF_LIFE_SESSIONS,
    POLICY_RESULTS,
    PolicyResult,
    merged,
    policy_of,
)
from tests.unit.streams.folds.driving import PARTITION, Driven
from tests.unit.streams.folds.oracles import records_of


def stored(results: PolicyResults) -> dict[str, PolicyResult]:
    return {name.decode(): PolicyResult.from_bytes(record) for name, record in results.take_changes().items()}


def listen(user: int, at: int, fraction: float, *, ended: bool, by: str | None, policy: str | None = None) -> Listen:
    return Listen(f"{user}-{at}", user, at, fraction, at, f"s{user}", at, ended, by, {}, None, None, policy)


@pytest.mark.parametrize(
    ("by", "policy", "name"),
    [
        (None, None, ""),
        ("fism", None, "fism"),
        ("mix", "fism", "mix/fism"),
        ("a", "a", "a"),
        ("mix", "memory/random", "mix/memory"),
    ],
)
def test_a_policy_is_the_recommender_and_its_choice(by: str | None, policy: str | None, name: str) -> None:
    assert policy_of(listen(1, 0, 1.0, ended=False, by=by, policy=policy)) == name


def test_the_mean_is_that_of_sessions_the_latest_weighing_most() -> None:
    times = np.random.default_rng(3).gamma(2.0, 5.0, size=2000)
    results = PolicyResults(half_life_sessions=500)
    for time in times.tolist():
        results.heard("mix/fism", time)
        results.end("mix/fism")
    result = stored(results)["mix/fism"]
    weights = 0.5 ** (np.arange(len(times), 0, -1) / 500)
    assert result.mean == pytest.approx(np.average(times, weights=weights))
    assert result.ends == pytest.approx(weights.sum())
    assert PolicyResult.from_bytes(result.to_bytes()).to_bytes() == result.to_bytes()


def test_what_is_hardly_used_is_known_less_and_less_and_what_another_recommender_does_takes_no_part() -> None:
    results = PolicyResults(half_life_sessions=10)
    for policy, time in (("mix/memory", 8.0), ("random", 4.0)):
        results.heard(policy, time)
        results.end(policy)
    before = stored(results)
    for _ in range(10):
        results.heard("mix/fism", 80.0)
        results.end("mix/fism")
    after = stored(results)
    assert "random" not in after  # has not changed
    assert after["mix/memory"].ends == pytest.approx(before["mix/memory"].ends / 2)
    assert after["mix/memory"].mean == pytest.approx(8.0)


def test_results_go_on_from_what_is_stored() -> None:
    results = PolicyResults()
    results.heard("mix/fism", 8.0)
    results.end("mix/fism")
    again = PolicyResults()
    again.load(dict(results.take_changes()))
    for one in (results, again):
        one.heard("mix/memory", 1.0)
        one.end("mix/memory")
    assert again.take_changes() == results.take_changes()


def test_a_record_of_before_is_refused() -> None:
    with pytest.raises(ValueError, match="24 bytes is of another version, replay the topic"):
        PolicyResult.from_bytes(bytes(24))


def test_open_sessions_tell_of_a_policy_before_they_end() -> None:
    """Listeners leave at a constant rate; after a while that few have left, the rate is known all the same."""
    rng, rate, watched = np.random.default_rng(1), 0.02, 10.0
    lives = rng.exponential(1 / rate, size=20_000)
    result = PolicyResult(time=float(np.minimum(lives, watched).sum()), ends=float((lives <= watched).sum()))
    assert result.mean == pytest.approx(1 / rate, rel=0.05)
    assert lives[lives <= watched].mean() < 0.11 / rate  # what those that ended would say


def test_partitions_merge_into_what_one_would_have_held() -> None:
    parts = [PolicyResult(9.0, 3.0), PolicyResult(10.0, 1.0), PolicyResult(6.0, 2.0)]
    assert (merged(parts).time, merged(parts).ends) == (25.0, 6.0)


def results_in(driven: Driven) -> dict[str, PolicyResult]:
    found = driven.store.hashes[PARTITION, POLICY_RESULTS]
    return {name.decode(): PolicyResult.from_bytes(record) for name, record in found.items()}


def test_a_session_counts_for_the_policy_of_its_first_answer_from_then_on() -> None:
    driven = Driven()
    driven.take(
        records_of(
            [
                listen(1, 0, 1.0, ended=False, by=None),
                listen(1, 1, 0.5, ended=False, by="mix", policy="fism"),
                listen(2, 0, 1.0, ended=True, by=None),  # nobody recommended anything
                listen(1, 2, 0.25, ended=False, by="mix", policy="memory"),
                listen(3, 0, 1.0, ended=False, by="random"),
            ]
        )
    )
    results = results_in(driven)
    assert {name: (result.time, result.ends) for name, result in results.items()} == {
        "mix/fism": (1.75, 0.0),
        "random": (1.0, 0.0),
    }
    driven.restart()
    end = listen(1, 3, 0.25, ended=True, by="mix", policy="memory")
    driven.take([(100, end)])
    assert results_in(driven)["mix/fism"].mean == pytest.approx(2.0)
    assert results_in(driven)["mix/fism"].ends == pytest.approx(0.5 ** (1 / HALF_LIFE_SESSIONS))
