"""Who is asked when, and what is learned by then."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from botify.evaluation import EvaluationError
from botify.evaluation.log import Log
from botify.evaluation.protocols import Plan, Terms
from botify.evaluation.run import run
from tests.unit.evaluation.logs import Spy, planned, random_log

PROTOCOLS = ("prequential", "leave-last-out", "temporal-split")


def learned_pairs(plan: Plan, ask: int) -> set[tuple[int, int]]:
    """What is learned when a question is asked."""
    events = plan.log.events
    until = int(plan.learned[ask])
    return set(zip(events.users[:until].tolist(), events.items[:until].tolist(), strict=True))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_target_is_learned_before_it_is_asked_for(protocol: str) -> None:
    plan = planned(random_log(), protocol=protocol)
    assert len(plan.targets) > 20
    for ask, target in zip(plan.asks.tolist(), plan.targets.tolist(), strict=True):
        assert (int(plan.ask_users[ask]), target) not in learned_pairs(plan, ask)


def test_each_event_is_learned_once_and_in_order() -> None:
    plan, spy = planned(random_log()), Spy()
    run(spy, plan, Terms())
    learned = [pair for what, *columns in spy.calls if what == "learn" for pair in zip(*columns, strict=True)]
    events = plan.log.events
    assert learned == list(zip(events.users.tolist(), events.items.tolist(), strict=True))


@pytest.mark.parametrize("micro_batch", [1, 4, 64])
def test_a_user_is_once_in_a_micro_batch_unless_tied(micro_batch: int) -> None:
    plan = planned(random_log(), micro_batch=micro_batch)
    events, ties = plan.log.events, 0
    for begin, end in zip(plan.batches[:-1].tolist(), plan.batches[1:].tolist(), strict=True):
        seconds: dict[int, set[int]] = {}
        for user, time_ms in zip(events.users[begin:end].tolist(), events.times_ms[begin:end].tolist(), strict=True):
            seconds.setdefault(user, set()).add(time_ms // 1000)
        assert all(len(of_user) == 1 for of_user in seconds.values())
        assert end - begin <= micro_batch or len(seconds) == 1
        ties += end - begin - len(seconds)
    assert ties > 5  # the log has some


@pytest.mark.parametrize("block", [1, 50, 10_000])
def test_a_block_is_predicted_from_what_came_before_it(block: int) -> None:
    plan = planned(random_log(), block=block)
    bounds, events = plan.batches.tolist(), plan.log.events
    ties = set(plan.log.ties().tolist())
    assert all(begin in ties for begin in bounds[:-1])
    sizes = np.diff(bounds)
    assert (sizes[:-1] >= block).all()
    assert (sizes < block + 20).all() or block > events.size
    assert set(plan.learned.tolist()) <= set(bounds)
    targets = {(int(plan.ask_users[ask]), item) for ask, item in zip(plan.asks, plan.targets.tolist(), strict=True)}
    single = planned(random_log())
    pairs = zip(single.ask_users[single.asks].tolist(), single.targets.tolist(), strict=True)
    assert targets == set(pairs), "the same is asked for, whatever is learned by then"


def test_tied_events_are_all_asked_for_before_any_is_learned() -> None:
    users, times = np.zeros(6, dtype=int), np.array([0, 0, 0, 5, 5, 9]) * 1000
    plan, spy = planned(Log.of("ties", users, np.arange(6), times_ms=times)), Spy()
    run(spy, plan, Terms())
    assert [what for what, *_ in spy.calls] == ["rank", "learn"] * 3
    assert [len(one[1]) for one in spy.calls if one[0] == "learn"] == [3, 2, 1]
    assert Counter(plan.asks.tolist()) == {0: 3, 1: 2, 2: 1}
    assert sorted(plan.histories.tolist()) == [0, 0, 0, 3, 3, 5]


def test_figures_are_those_of_the_second_half_and_validation_never_sees_it() -> None:
    log = random_log()
    plan, before = planned(log), planned(log, validation=True)
    assert plan.positions[plan.reported].min() >= 0.49
    assert plan.positions[~plan.reported].max() < 0.51
    half = plan.log.events.times_ms[plan.log.events.size // 2]
    assert before.log.events.times_ms.max() // 1000 < half // 1000


def test_the_last_item_is_held_out_and_the_second_last_for_validation() -> None:
    log = Log.of("sequences", np.repeat(np.arange(4), 5), np.tile(np.arange(5), 4))
    test, validation = planned(log, protocol="leave-last-out"), planned(log, protocol="leave-last-out", validation=True)
    new = np.random.default_rng(0).permutation(5)
    assert set(test.targets.tolist()) == {int(new[4])}
    assert set(validation.targets.tolist()) == {int(new[3])}
    assert new[4] not in validation.log.events.items


def test_only_positive_new_items_are_right_unless_repeats_are() -> None:
    users, items = np.zeros(6, dtype=int), np.array([0, 1, 0, 2, 3, 2])
    fractions = np.array([1, 1, 1, 0.2, 1, 1], dtype=np.float32)
    log = Log.of("plays", users, items, fractions=fractions, times_ms=np.arange(6) * 1000)
    assert len(planned(log).targets) == 3
    assert len(planned(log, repeats=True).targets) == 5
    assert len(planned(log, positive=0.0).targets) == 4


def test_a_temporal_split_asks_once_for_the_first_new_item_of_the_future() -> None:
    log = random_log()
    plan = planned(log, protocol="temporal-split")
    assert len(np.unique(plan.ask_users)) == len(plan.ask_users)
    assert plan.log.events.times_ms.max() // 1000 < plan.ask_times_ms.min() // 1000


def test_validation_by_a_temporal_split_never_sees_what_comes_after_the_moment() -> None:
    log = random_log()
    plan, before = planned(log, protocol="temporal-split"), planned(log, protocol="temporal-split", validation=True)
    past = plan.log.events.times_ms.max()
    assert before.ask_times_ms.max() <= past
    assert before.log.events.times_ms.max() < past


def test_a_log_without_times_has_no_temporal_split() -> None:
    with pytest.raises(EvaluationError, match="no times"):
        planned(random_log(timed=False), protocol="temporal-split")


def test_an_unknown_protocol_is_named() -> None:
    with pytest.raises(EvaluationError, match="'shuffled' is none of prequential"):
        planned(random_log(), protocol="shuffled")


def test_the_last_event_of_a_user_ends_its_session_where_the_log_ends() -> None:
    events = planned(random_log(), protocol="leave-last-out").log.events
    last = {user: at for at, user in enumerate(events.users.tolist())}
    assert sorted(last.values()) == np.flatnonzero(events.ended).tolist()
    assert not planned(random_log()).log.events.ended.any()
