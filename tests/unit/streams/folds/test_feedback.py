"""Invariant: opinions are a function of what was said since the last erasure, in any order, copies and batches."""

import asyncio
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from botify.core.kafka.reader import LogRecord
from botify.schemas.codec import Codec
from botify.schemas.events import OPINION_KINDS, Feedback, Listen
from botify.schemas.validation import ERASURE, Intake
from botify.streams.folds import feedback, sessions
from botify.streams.folds.feedback import OPINIONS, Said, merged, read_said, with_said
from botify.streams.folds.reference import PolicyResults
from botify.streams.folds.sessions import HALF_LIFE_SESSIONS, POLICY_RESULTS, PolicyResult, policy_of
from botify.streams.store.protocol import MemoryStore
from botify.streams.verify import OfflineFold
from botify.streams.worker.folding import by_feedback
from tests.unit.streams.folds.driving import PARTITION, Driven
from tests.unit.streams.folds.oracles import records_of

CODEC = Codec()
SAID = st.tuples(st.integers(0, 9), st.integers(0, 7), st.sampled_from(OPINION_KINDS))


@given(st.lists(SAID), st.randoms(use_true_random=False), st.integers(1, 9))
def test_no_order_and_no_copy_makes_a_difference(said: list[Said], draw: random.Random, most: int) -> None:
    newest: dict[int, Said] = {}
    for one in said:
        newest[one[1]] = max(newest.get(one[1], one), one)
    other = [*said, *draw.sample(said, len(said) // 2)]
    draw.shuffle(other)
    cut = draw.randrange(len(other) + 1)
    kept, feedback.MOST_OPINIONS = feedback.MOST_OPINIONS, most
    try:
        expected = sorted(newest.values())[-most:]
        assert merged([], said) == expected
        assert read_said(with_said(with_said(b"", other[:cut]), other[cut:])) == expected
    finally:
        feedback.MOST_OPINIONS = kept


def folded(records: list[LogRecord], draw: random.Random) -> tuple[MemoryStore, int]:
    """Fold in batches of any size, with listeners forgotten by memory."""
    offline = OfflineFold(0, Intake(CODEC), (), folding=by_feedback)

    async def fold() -> None:
        begin = 0
        while begin < len(records):
            end = begin + draw.randrange(1, 30)
            await offline.advance(records[begin:end])
            begin = end

    asyncio.run(fold())
    return offline.store, offline.counters.dead_letters


def test_an_erasure_lies_between_what_was_said_before_it_and_after_it() -> None:
    draw = random.Random(5)
    records, expected, hostile = [], {}, 0
    for offset in range(2_000):
        user, headers, value = draw.randrange(300), (), None
        kind = draw.random()
        if kind < 0.05:
            headers = ((ERASURE, b""),)
            expected.pop(user, None)
        elif kind < 0.1:
            hostile += 1
            value = draw.choice([None, b"\xff", CODEC.encode(Feedback("x", user, 3, "adore", 1))])
        else:
            one = (draw.randrange(1_000), draw.randrange(20), draw.choice(OPINION_KINDS))
            value = CODEC.encode(Feedback(f"e{offset}", user, one[1], one[2], one[0]))
            expected[user] = merged(expected.get(user, []), [one])
        records.append(LogRecord("feedback", 0, offset, 0, b"%d" % user, value, headers))
    for seed in (1, 2):
        store, dead_letters = folded(records, random.Random(seed))
        found = {int(user): read_said(record) for user, record in store.hashes[0, OPINIONS].items()}
        assert found == expected
        assert dead_letters == hostile


def stored(results: PolicyResults) -> dict[str, PolicyResult]:
    return {name.decode(): PolicyResult.from_bytes(record) for name, record in results.take_changes().items()}


def heard_of(user: int, at: int, fraction: float, *, ended: bool, by: str | None, policy: str | None = None) -> Listen:
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
    assert policy_of(heard_of(1, 0, 1.0, ended=False, by=by, policy=policy)) == name


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


def test_partitions_merge_into_what_one_would_have_held() -> None:
    parts = [PolicyResult(9.0, 3.0), PolicyResult(10.0, 1.0), PolicyResult(6.0, 2.0)]
    assert (sessions.merged(parts).time, sessions.merged(parts).ends) == (25.0, 6.0)


def results_in(driven: Driven) -> dict[str, PolicyResult]:
    found = driven.store.hashes[PARTITION, POLICY_RESULTS]
    return {name.decode(): PolicyResult.from_bytes(record) for name, record in found.items()}


def test_a_session_counts_for_the_policy_of_its_first_answer_from_then_on() -> None:
    driven = Driven()
    driven.take(
        records_of(
            [
                heard_of(1, 0, 1.0, ended=False, by=None),
                heard_of(1, 1, 0.5, ended=False, by="mix", policy="fism"),
                heard_of(2, 0, 1.0, ended=True, by=None),  # nobody recommended anything
                heard_of(1, 2, 0.25, ended=False, by="mix", policy="memory"),
                heard_of(3, 0, 1.0, ended=False, by="random"),
            ]
        )
    )
    results = results_in(driven)
    assert {name: (result.time, result.ends) for name, result in results.items()} == {
        "mix/fism": (1.75, 0.0),
        "random": (1.0, 0.0),
    }
    driven.restart()
    end = heard_of(1, 3, 0.25, ended=True, by="mix", policy="memory")
    driven.take([(100, end)])
    assert results_in(driven)["mix/fism"].mean == pytest.approx(2.0)
    assert results_in(driven)["mix/fism"].ends == pytest.approx(0.5 ** (1 / HALF_LIFE_SESSIONS))
