from __future__ import annotations

import numpy as np
import pytest

from schemas.events import Listen
from streams.folds.policy_results import KEEP, POLICY_RESULTS, PolicyResult, merged, policy_of
from tests.unit.streams.driving import PARTITION, Driven
from tests.unit.streams.oracles import records_of


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


def test_mean_and_variance_weigh_the_latest_most() -> None:
    times = np.random.default_rng(3).gamma(2.0, 5.0, size=2000)
    result = PolicyResult()
    for time in times.tolist():
        result.add(time)
    weights = KEEP ** np.arange(len(times))[::-1]
    mean = np.average(times, weights=weights)
    assert result.weight == pytest.approx(weights.sum())
    assert result.mean == pytest.approx(mean)
    assert result.variance == pytest.approx(np.average((times - mean) ** 2, weights=weights))
    assert PolicyResult.from_bytes(result.to_bytes()).to_bytes() == result.to_bytes()


def test_partitions_merge_into_what_one_would_have_held() -> None:
    parts = []
    for times in ([1.0, 2.0, 6.0], [10.0], [3.0, 3.0]):
        part = PolicyResult(len(times), float(np.mean(times)), float(np.var(times) * len(times)))
        parts.append(part)
    whole = np.array([1.0, 2.0, 6.0, 10.0, 3.0, 3.0])
    assert merged(parts).mean == pytest.approx(whole.mean())
    assert merged(parts).variance == pytest.approx(whole.var())


def test_a_session_counts_for_the_policy_of_its_first_answer_when_it_closes() -> None:
    driven = Driven()
    driven.take(
        records_of(
            [
                listen(1, 0, 1.0, ended=False, by=None),
                listen(1, 1, 0.5, ended=False, by="mix", policy="fism"),
                listen(2, 0, 1.0, ended=True, by=None),  # nobody recommended anything
                listen(1, 2, 0.0, ended=True, by="mix", policy="memory"),
                listen(3, 0, 1.0, ended=False, by="random"),
            ]
        )
    )
    found = driven.store.hashes[PARTITION, POLICY_RESULTS]
    assert found.keys() == {b"mix/fism"}  # the last is still open
    result = PolicyResult.from_bytes(found[b"mix/fism"])
    assert (result.weight, result.mean) == (1.0, 1.5)
