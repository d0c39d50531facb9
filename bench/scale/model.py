"""How fast workers fold a backlog, from what one of them does alone and what the machine gives.

A partition alternates between its worker's core, Kafka and Redis, so one worker uses only a part of a core: the more
partitions it has, the more of its waiting overlaps. That part is measured, for one worker alone on n partitions.
Workers do not know of each other. They meet at Redis, which has one core, and at the cores of the machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

ROUNDS = 50
"""More than it takes until the rate no longer changes."""


class Folding(NamedTuple):
    """How fast some workers fold together, and the CPU time a listen of Redis."""

    listens_per_s: float
    redis_us: float


class Prediction(NamedTuple):
    """Listens a second of all workers, and what bounds them: `waits`, `redis` or `cores`."""

    listens_per_s: float
    bound: str


def predict(alone: Mapping[int, Folding], full: Folding, workers: int, partitions: int) -> Prediction:
    """Return what so many workers fold of so many partitions, on the machine that was measured.

    A worker without a partition is idle; b = min(workers, partitions) are busy, with n = partitions / b each. They fold
    b / (1 / alone(n) + ρ r), where r is Redis's time for a listen and ρ the share of its core that the others use; at
    most 1 / r; and at most what the machine folds when all its cores are busy.

    Parameters
    ----------
    alone : mapping of int to Folding
        One worker on n partitions.
    full : Folding
        So many workers that all cores are busy.

    Examples
    --------
    >>> alone, full = {1: Folding(100_000, 0.0)}, Folding(250_000, 0.0)
    >>> [predict(alone, full, workers, 4).bound for workers in (4, 8)]
    ['cores', 'cores']
    >>> round(predict(alone, full, 2, 2).listens_per_s)
    200000
    """
    busy = min(workers, partitions)
    own = alone[partitions // busy]
    bounds = {
        "waits": _together(own, busy),
        "redis": 1e6 / own.redis_us if own.redis_us else float("inf"),
        "cores": full.listens_per_s,
    }
    bound = min(bounds, key=bounds.__getitem__)
    return Prediction(bounds[bound], bound)


def _together(own: Folding, busy: int) -> float:
    """Return the rate of workers that wait for each other at Redis: the fixed point of rate and waiting."""
    redis_s, alone_s = own.redis_us / 1e6, 1 / own.listens_per_s
    rate = busy / alone_s
    for _ in range(ROUNDS):
        others = min(1.0, rate * redis_s * (busy - 1) / busy)
        rate = (rate + busy / (alone_s + others * redis_s)) / 2
    return rate
