"""A replay changes what carries no meaning, and nothing else."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from botify.evaluation import EvaluationError
from botify.evaluation.log import Log
from botify.evaluation.protocols import Terms
from botify.evaluation.run import run
from botify.schemas.events import Track
from tests.unit.evaluation.logs import (
    NextId,
    Spy,
    companions,
    follows,
    planned,
    random_log,
    recall_of,
    reported,
    without_permutation,
)


def test_a_replay_renames_items_and_their_tracks_alike() -> None:
    tracks = [Track(item, f"artist of {item}", None, None, str(item)) for item in range(40)]
    log = random_log()
    log = Log.of("with tracks", *log.events[:2], times_ms=log.events.times_ms, tracks=tracks)
    replayed = log.replayed(3)
    assert [track.track for track in replayed.tracks] == list(range(40))
    old = np.array([int(track.title) for track in replayed.tracks])  # of each new id
    before = sorted(zip(log.events.users.tolist(), log.events.items.tolist(), strict=True))
    after = sorted(zip(replayed.events.users.tolist(), old[replayed.events.items].tolist(), strict=True))
    assert before == after
    assert (old != np.arange(40)).any()


def test_events_of_one_second_of_a_user_are_together_and_in_an_order_of_the_seed() -> None:
    log = Log.of("ties", np.zeros(8, dtype=int), np.arange(8), times_ms=np.arange(8) * 100)
    orders = {tuple(np.argsort(log.replayed(seed).events.times_ms).tolist()) for seed in range(5)}
    assert len(orders) > 1
    assert all(log.replayed(seed).ties().tolist() == [0] for seed in range(5))


def test_without_times_users_are_interleaved_and_each_keeps_its_order() -> None:
    users = np.repeat(np.arange(5), 20)
    log = Log.of("sequences", users, np.tile(np.arange(20), 5))
    one, other = log.replayed(0), log.replayed(1)
    assert one.events.users.tolist() != other.events.users.tolist()
    assert np.count_nonzero(np.diff(one.events.users)) > 40
    back = {new: old for old, new in zip(range(20), np.random.default_rng(0).permutation(20).tolist(), strict=True)}
    for user in range(5):
        assert [back[item] for item in one.events.items[one.events.users == user].tolist()] == list(range(20))
    assert (np.diff(one.events.times_ms) > 0).all()


def test_sessions_end_by_a_pause_or_after_fifty_listens() -> None:
    timed = Log.of("timed", np.zeros(3, int), np.arange(3), times_ms=np.array([0, 60_000, 3_600_000]))
    assert timed.events.sessions.tolist() == [0, 0, 1]
    assert np.bincount(Log.of("untimed", np.zeros(120, int), np.arange(120)).events.sessions).tolist() == [50, 50, 20]


@pytest.mark.parametrize("protocol", ["prequential", "leave-last-out", "temporal-split"])
def test_no_target_is_learned_before_it_is_asked_for(protocol: str) -> None:
    plan = planned(random_log(), protocol=protocol)
    assert len(plan.targets) > 20
    for ask, target in zip(plan.asks.tolist(), plan.targets.tolist(), strict=True):
        learned = plan.log.events.rows(slice(int(plan.learned[ask])))
        assert target not in learned.items[learned.users == plan.ask_users[ask]]


def test_each_event_is_learned_once_and_in_order() -> None:
    plan, spy = planned(random_log()), Spy()
    run(spy, plan, Terms())
    for column in ("users", "items"):
        learned = np.concatenate([getattr(events, column) for events in spy.learned])
        assert learned.tolist() == getattr(plan.log.events, column).tolist()


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
    assert spy.calls == ["rank", "learn"] * 3
    assert [events.size for events in spy.learned] == [3, 2, 1]
    assert Counter(plan.asks.tolist()) == {0: 3, 1: 2, 2: 1}
    assert sorted(plan.histories.tolist()) == [0, 0, 0, 3, 3, 5]


def test_figures_are_those_of_the_second_half_and_validation_never_sees_it() -> None:
    plan, before = planned(random_log()), planned(random_log(), validation=True)
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


def test_validation_by_a_temporal_split_never_sees_what_comes_after_the_moment() -> None:
    log = random_log()
    plan, before = planned(log, protocol="temporal-split"), planned(log, protocol="temporal-split", validation=True)
    past = plan.log.events.times_ms.max()
    assert before.ask_times_ms.max() <= past
    assert before.log.events.times_ms.max() < past


def test_what_cannot_be_planned_is_refused() -> None:
    with pytest.raises(EvaluationError, match="no times"):
        planned(random_log(timed=False), protocol="temporal-split")
    with pytest.raises(EvaluationError, match="no sittings"):
        planned(random_log(timed=False), shuffle_sittings=30)
    with pytest.raises(EvaluationError, match="'shuffled' is none of prequential"):
        planned(random_log(), protocol="shuffled")
    with pytest.raises(EvaluationError, match="must be equal"):
        Log.of("odd", np.zeros(3, int), np.zeros(2, int))


def test_the_last_event_of_a_user_ends_its_session_where_the_log_ends() -> None:
    events = planned(random_log(), protocol="leave-last-out").log.events
    last = {user: at for at, user in enumerate(events.users.tolist())}
    assert sorted(last.values()) == np.flatnonzero(events.ended).tolist()
    assert not planned(random_log()).log.events.ended.any()


USERS, LENGTH = 60, 20


def test_ids_by_first_appearance_do_not_help() -> None:
    """Users take turns, and half of what they hear is new to the log: its id is the largest so far + 1."""
    generator, items, largest = np.random.default_rng(0), [], -1
    for _ in range(USERS * LENGTH):
        if largest < 0 or generator.random() < 0.5:
            largest += 1
            items.append(largest)
        else:
            items.append(int(generator.integers(largest + 1)))
    users = np.tile(np.arange(USERS), LENGTH)
    log = Log.of("numbered", users, np.array(items), times_ms=np.arange(len(users)) * 1000)
    terms = Terms(k=1, micro_batch=1)
    cheat = run(NextId(log.items), without_permutation(log, terms), terms)
    assert reported(cheat) > 0.4  # the trap is real
    assert recall_of(NextId(log.items), log, terms) < 0.01


def test_scoring_ties_one_after_another_would_flatter() -> None:
    """A second of a user holds one block of four items: who has heard one of them knows the others."""
    generator = np.random.default_rng(1)
    blocks = np.concatenate([generator.permutation(10) for _ in range(USERS)])
    users = np.repeat(np.repeat(np.arange(USERS), 10), 4)
    items = np.repeat(blocks * 4, 4) + np.tile(np.arange(4), len(blocks))
    order = np.arange(len(users))
    tied = Log.of("tied", users, items, times_ms=order // 4 * 1000)
    one_by_one = Log.of("one by one", users, items, times_ms=order * 1000)
    # the ranker finds blocks by number, so items keep theirs
    sequential, together = (run(companions(), without_permutation(of, Terms()), Terms()) for of in (one_by_one, tied))
    assert reported(sequential) > 0.7
    assert reported(together) == 0.0


def test_the_order_of_a_page_would_flatter() -> None:
    """Each user reads a page of twenty items from its top, one a minute, after an item of no page."""
    pages = np.random.default_rng(2).integers(0, 10, USERS)
    users, minutes = np.repeat(np.arange(USERS), 21), np.tile(np.arange(21), USERS)
    items = np.where(minutes, np.repeat(pages, 21) * 20 + minutes, 0)
    times_ms = (users * 60 + minutes + 30 * (minutes == 20)) * 60_000  # the last comes half an hour later
    log = Log.of("pages", users, items, times_ms=times_ms)
    replayed, shuffled = log.replayed(0).events, log.replayed(0, sitting_ms=20 * 60_000).events
    for column in ("users", "times_ms", "sessions"):
        assert getattr(shuffled, column).tolist() == getattr(replayed, column).tolist()
    for user in range(USERS):
        before, after = (one.items[one.users == user].tolist() for one in (replayed, shuffled))
        assert before != after
        assert sorted(before[:20]) == sorted(after[:20])
        assert before[20] == after[20], "another sitting"
    terms = Terms(k=1)
    assert recall_of(follows(), log, terms) > 0.8  # the trap is real
    assert recall_of(follows(), log, replace(terms, shuffle_sittings=20)) < 0.3
