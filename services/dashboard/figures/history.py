"""The last two minutes of the charts, and how the experiments' effects grew."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping

from services.dashboard.figures.effects import ExperimentReading
from services.dashboard.figures.listen_sample import Latency
from services.dashboard.figures.snapshot import Moment, Traffic

SECONDS = 120
EFFECT_POINTS = 120

Bounds = tuple[float, float, float]
Key = tuple[str, str, str]


class History:
    """Bounded rings; the collector adds to them once a second.

    Examples
    --------
    >>> history = History()
    >>> history.add(Traffic(9, 8, 100.0, 90.0, (0,), (0,), 0), Latency(3.0, 9.0))
    >>> history.moments()
    (Moment(listens_per_s=100.0, recommendations_per_s=90.0, p50_ms=3.0, p99_ms=9.0),)
    """

    def __init__(self) -> None:
        self._moments: deque[Moment] = deque(maxlen=SECONDS)
        self._effects: dict[Key, deque[Bounds]] = {}

    def add(self, traffic: Traffic | None, latency: Latency | None) -> None:
        """Add a second; one that could not be read is a gap."""
        rates = (traffic.listens_per_s, traffic.recommendations_per_s) if traffic else (math.nan, math.nan)
        self._moments.append(Moment(*rates, *(latency or (math.nan, math.nan))))

    def add_effects(self, experiments: Iterable[ExperimentReading]) -> None:
        """Add the effects as they are now; of those that were never met before, a ring is begun."""
        for experiment in experiments:
            for effect in experiment.effects:
                key = (experiment.name, effect.treatment, effect.metric)
                points = self._effects.setdefault(key, deque(maxlen=EFFECT_POINTS))
                if not math.isnan(effect.lower):
                    points.append((effect.effect, effect.lower, effect.upper))

    def moments(self) -> tuple[Moment, ...]:
        """Return the seconds, oldest first."""
        return tuple(self._moments)

    def effects(self) -> Mapping[Key, tuple[Bounds, ...]]:
        """Return effect, lower and upper bound in % over time, by (experiment, treatment, metric)."""
        return {key: tuple(points) for key, points in self._effects.items()}
