"""Peers keep the rules, and find what goes together; those that are not installed are skipped."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

from evaluation.evaluate import Job, replays
from evaluation.log import Log
from evaluation.protocols import Terms
from evaluation.ranker import UNTUNED
from evaluation.rankers.registry import PEERS
from tests.unit.evaluation.logs import random_log, reported


def blocks_log(users: int = 60, blocks: int = 8, size: int = 8) -> Log:
    """Users who each hear six items of one block, in any order."""
    generator = np.random.default_rng(0)
    items = np.concatenate([user % blocks * size + generator.permutation(size)[:6] for user in range(users)])
    return Log.of("blocks", np.repeat(np.arange(users), 6), items)


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_keeps_the_rules(name: str) -> None:
    _skip_without_package(name)
    for protocol in ("prequential", "leave-last-out"):
        (outcome,) = replays(Job(name, random_log(), Terms(protocol=protocol), range(1)))
        assert outcome.note == UNTUNED


@pytest.mark.parametrize("name", ["ease", "item_knn", "als", "rtrec_slim"])
def test_a_peer_finds_the_rest_of_a_block(name: str) -> None:
    _skip_without_package(name)
    terms = Terms(protocol="leave-last-out", k=3)
    assert (
        reported(replays(Job(name, blocks_log(), terms, range(1)))[0]) > 0.5
    )  # three of a block are left, of 64 items


def _skip_without_package(name: str) -> None:
    package = PEERS[name].package
    if package and find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
