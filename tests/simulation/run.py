"""Running a universe by its seed."""

import gc
import logging
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any
from unittest import mock

from tests.simulation.faults import Fault, planned
from tests.simulation.serving import ServingUniverse
from tests.simulation.streaming import LEARNERS, WORKERS, StreamUniverse
from tests.simulation.timeline import timeline
from tests.simulation.topic import TOPICS
from tests.simulation.universe import Result, Universe

COLLECTED_EVERY = 500
"""Universes between two full collections of garbage; what one of them leaves is collected at once."""
SERVING_EVERY = 5
"""One seed of so many is a universe of requests, the others are of streams."""


def plan_of(seed: int) -> Sequence[Fault]:
    return planned(Random(f"{seed} faults"), WORKERS + LEARNERS, timeline(seed % TOPICS))


def universe_of(seed: int, planned_faults: Sequence[Fault]) -> Universe:
    kind = ServingUniverse if seed % SERVING_EVERY == SERVING_EVERY - 1 else StreamUniverse
    return kind(seed, planned_faults)


def run_universe(seed: int, planned_faults: Sequence[Fault] | None = None) -> Result:
    universe = universe_of(seed, plan_of(seed) if planned_faults is None else planned_faults)
    owners = Random(f"{seed} owners")

    def owner() -> uuid.UUID:
        return uuid.UUID(int=owners.getrandbits(128))

    with no_garbage_collection(), no_logging(), mock.patch.object(uuid, "uuid4", owner):
        return universe.run()


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Do not collect meanwhile: the tasks of a crashed process would end at a moment that no seed chooses."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def no_logging() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def shrunk(failed: Result) -> Result:
    """Return a failing universe of the same seed from which no single fault can be taken."""
    smaller = True
    while smaller:
        smaller = False
        for fault in failed.faults:
            without = run_universe(failed.seed, [other for other in failed.faults if other is not fault])
            if without.violations:
                failed, smaller = without, True
                break
    return failed


def run_block(block: tuple[int, int]) -> dict[str, Any]:
    began_s, virtual_s, happened, violated = time.process_time(), 0.0, 0, []
    with no_garbage_collection():
        for seed in range(block[0], block[0] + block[1]):
            result = run_universe(seed)
            virtual_s += result.virtual_s
            happened += len(result.faults)
            if result.violations:
                violated.append(seed)
            # only what is new, while it is in the processor's caches: topics and compiled code are old
            gc.collect(2 if seed % COLLECTED_EVERY == 0 else 1)
    cpu_s = time.process_time() - began_s
    return {
        "first": block[0],
        "universes": block[1],
        "virtual_h": virtual_s / 3600,
        "faults": happened,
        "violated": violated,
        "cpu_s": cpu_s,
    }
