"""What the sampled listens say: how long answers took, who recommended, and what the experiments do."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from schemas.events import Listen
from services.dashboard.figures.effects import ExperimentReading, read_experiments
from services.dashboard.figures.listener_totals import ListenerTotals

RECENT = 4_000
"""Listens that shares and latencies are taken over: some seconds of a busy loop."""


class Latency(NamedTuple):
    """Round trip from request to recommendation, as the listeners saw it, in milliseconds."""

    p50_ms: float
    p99_ms: float


class RecommenderShare(NamedTuple):
    """A recommender's part of the last listens.

    Attributes
    ----------
    share : float
        Of the listens that were recommended.
    mean_fraction : float
        How much of a track was heard.
    """

    recommender: str
    share: float
    mean_fraction: float


class ListenSample:
    """Takes the sampled listens in; costs about a microsecond each.

    Examples
    --------
    >>> sample = ListenSample()
    >>> sample.update([Listen("a:1", 42, 8, 0.5, 2000, "a", 1, True, "random", {"X": "C"}, 0.1, 3.0)])
    >>> sample.latency(), sample.recommenders()
    (Latency(p50_ms=3.0, p99_ms=3.0), (RecommenderShare(recommender='random', share=1.0, mean_fraction=0.5),))
    """

    def __init__(self) -> None:
        self._totals = ListenerTotals()
        self._latencies_ms: deque[float] = deque(maxlen=RECENT)
        self._recommended: deque[tuple[str, float]] = deque(maxlen=RECENT)

    def update(self, listens: Iterable[Listen]) -> None:
        """Take listens in; each listener's are in their order."""
        for listen in listens:
            self._totals.update(listen)
            if listen.recommender is not None:
                self._recommended.append((listen.recommender, listen.fraction))
                if listen.latency_ms is not None:
                    self._latencies_ms.append(listen.latency_ms)

    def latency(self) -> Latency | None:
        """Return the percentiles over the last listens; None before the first answer."""
        if not self._latencies_ms:
            return None
        p50, p99 = np.percentile(np.array(self._latencies_ms), [50, 99]).tolist()
        return Latency(p50, p99)

    def recommenders(self) -> tuple[RecommenderShare, ...]:
        """Return who recommended the last listens, the biggest share first."""
        fractions: dict[str, list[float]] = {}
        for recommender, fraction in self._recommended:
            fractions.setdefault(recommender, []).append(fraction)
        total = len(self._recommended)
        shares = [RecommenderShare(name, len(of), sum(of) / len(of)) for name, of in fractions.items()]
        ordered = sorted(shares, key=lambda each: (-each.share, each.recommender))
        return tuple(each._replace(share=each.share / total) for each in ordered)

    def experiments(self) -> tuple[ExperimentReading, ...]:
        """Return every experiment that was met."""
        return read_experiments(self._totals)
