"""Our own processes, as the stack starts them."""

from __future__ import annotations

import sys

Program = tuple[str, list[str]]
"""Name and command line."""


def programs(workers: int, recommenders: int, learners: int = 0, gateways: int = 0) -> list[Program]:
    """Return the processes that make the loop run, and those that let people and programs take part in it.

    Examples
    --------
    >>> [name for name, _ in programs(workers=1, recommenders=2, learners=1, gateways=1)]
    ['worker-1', 'learner-1', 'recommender-1', 'recommender-2', 'gateway-1']
    """
    counts = {
        "worker": ("streams.worker", workers),
        "learner": ("streams.learner", learners),
        "recommender": ("services.recommender", recommenders),
        "gateway": ("services.gateway", gateways),
    }
    return [
        (f"{name}-{number}", [sys.executable, "-m", module])
        for name, (module, count) in counts.items()
        for number in range(1, count + 1)
    ]
