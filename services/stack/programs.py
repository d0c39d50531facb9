"""Our own processes, as the stack starts them."""

from __future__ import annotations

import sys

Program = tuple[str, list[str]]
"""Name and command line."""


def programs(workers: int, recommenders: int) -> list[Program]:
    """Return the processes that make the loop run.

    Examples
    --------
    >>> [name for name, _ in programs(workers=1, recommenders=2)]
    ['worker-1', 'recommender-1', 'recommender-2']
    """
    counts = {"worker": ("streams.worker", workers), "recommender": ("services.recommender", recommenders)}
    return [
        (f"{name}-{number}", [sys.executable, "-m", module])
        for name, (module, count) in counts.items()
        for number in range(1, count + 1)
    ]
