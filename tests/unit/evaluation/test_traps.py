"""Rankers that know nothing and profit from how a log is written get nothing here."""

from __future__ import annotations

import numpy as np

from botify.evaluation.log import Log
from botify.evaluation.protocols import Terms
from botify.evaluation.run import run
from tests.unit.evaluation.logs import Companions, NextId, recall_of, reported, without_permutation

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
    sequential = run(Companions(), without_permutation(one_by_one, Terms()), Terms())
    together = run(Companions(), without_permutation(tied, Terms()), Terms())
    assert reported(sequential) > 0.7
    assert reported(together) == 0.0
