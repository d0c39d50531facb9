"""A worker dies or stops exactly where it is told to, and has no failpoints where it is told nothing."""

from __future__ import annotations

import asyncio
import signal

import pytest

from botify.core.errors import SettingsError
from botify.streams.folds.projection import Changes
from botify.streams.store.protocol import MemoryStore
from botify.streams.worker.failpoints import (
    AFTER_APPLY,
    BEFORE_APPLY,
    DURING_CLAIM,
    Failpoints,
    FailpointStore,
    with_failpoints,
)


class DeadError(Exception):
    """Stands for SIGKILL."""


def die(_: signal.Signals) -> None:
    raise DeadError


def store(text: str) -> tuple[MemoryStore, FailpointStore]:
    inner = MemoryStore()
    return inner, FailpointStore(inner, Failpoints(text, seed=0, send=die))


def test_off_means_not_there() -> None:
    inner = MemoryStore()
    assert with_failpoints(inner, {}) is inner
    assert isinstance(with_failpoints(inner, {"BOTIFY_FAILPOINTS": "after-apply:3"}), FailpointStore)


@pytest.mark.parametrize(("point", "left"), [(BEFORE_APPLY, None), (AFTER_APPLY, 5)])
def test_an_apply_is_done_or_not_when_the_worker_dies(point: str, left: int | None) -> None:
    inner, failing = store(f"{point}:1")
    claim = asyncio.run(failing.claim(0, "me", "t"))
    with pytest.raises(DeadError):
        asyncio.run(failing.apply(0, claim, None, 5, Changes()))
    assert inner.checkpoints[0].next_offset == left


def test_a_claim_is_made_when_the_worker_dies() -> None:
    inner, failing = store(f"{DURING_CLAIM}:2")
    asyncio.run(failing.claim(0, "me", "t"))
    with pytest.raises(DeadError):
        asyncio.run(failing.claim(1, "me", "t"))
    assert inner.checkpoints[1].epoch == 1


def test_each_point_has_its_signal() -> None:
    sent: list[signal.Signals] = []
    points = Failpoints("before-apply:2:stop,after-apply:1:kill,during-claim:1", seed=0, send=sent.append)
    for point in (BEFORE_APPLY, BEFORE_APPLY, BEFORE_APPLY, AFTER_APPLY, DURING_CLAIM):
        points.reach(point)
    assert sent == [signal.SIGSTOP, signal.SIGKILL, signal.SIGKILL]


def test_probabilities_are_drawn_from_the_seed() -> None:
    def visits_survived(seed: int) -> int:
        points = Failpoints("before-apply:0.1", seed, die)
        for visit in range(1_000):
            try:
                points.reach(BEFORE_APPLY)
            except DeadError:
                return visit
        raise AssertionError("immortal")

    assert visits_survived(1) == visits_survived(1)
    assert len({visits_survived(seed) for seed in range(20)}) > 5


@pytest.mark.parametrize(
    "text", ["", "apply:1", "before-apply", "before-apply:0", "before-apply:1.5", "after-apply:x", "after-apply:1:term"]
)
def test_a_plan_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="BOTIFY_FAILPOINTS"):
        Failpoints(text, seed=0)


def test_a_seed_that_is_no_number_is_refused() -> None:
    with pytest.raises(SettingsError, match="BOTIFY_FAILPOINTS_SEED: 'x'"):
        with_failpoints(MemoryStore(), {"BOTIFY_FAILPOINTS": "after-apply:3", "BOTIFY_FAILPOINTS_SEED": "x"})
