"""Alarms of drift: shares of a stream that must not get worse, watched by a test that stays valid under repeated looks.

Values of one session depend on each other, so blocks of values are compared, not values: the newest blocks with those
before them, for each number of newest blocks. What is usual between blocks, such as the rhythm of a day, is in the
variance. Each beginning is one sequential test (`mixture_bound`) with the error `ALPHA`, so there is one false alarm in
1 / ALPHA blocks on average (as with the e-detectors of Shin, Ramdas and Rinaldo, arXiv 2203.03532).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

BLOCK_VALUES, BLOCK_MS = 64, 3_600_000
"""A block has at least as many values, and as much event time: an hour of most services, more of a small one."""
MOST_BLOCKS = 192  # a week of hours, and new ones: an older start, in which models still learned, would hide changes
LEAST_NEW, MOST_NEW, LEAST_OLD = 8, 12, 24
"""Blocks on both sides of a change: old ones of a day at least; so many new ones that a few long sessions are no alarm,
and so few that a part of the day is none. What is slower than the new ones is none, either."""
ALPHA, TUNED_FOR = 1e-5, 8
MARGIN = 0.02  # a change by less is no alarm


def rho_squared(alpha: float, tuned_for: int) -> float:
    """Return the mixture's parameter ρ² that is best at `tuned_for` values (closed form of the source below).

    Examples
    --------
    >>> round(rho_squared(0.05, 1_000), 5)
    0.00794
    """
    log_alpha = -2 * math.log(alpha)
    return (log_alpha + math.log(log_alpha + 1)) / tuned_for


def mixture_bound(n: ArrayLike, alpha: float, tuned_for: int) -> NDArray[np.float64]:
    """Return the bound of a one-sided confidence sequence, in standard errors; there is no last look.

    Robbins' mixture over a half-normal prior: sqrt(2 (m + 1) / m · log(1 + sqrt(m + 1) / (2 α))) with m = n ρ²
    (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, Annals of Statistics 52, 2024, one-sided form). It is the
    two-sided bound at 2 α but for the 1: 8 % closer to zero than the two-sided one at α = 0.05. `tuned_for` is the
    number of values at which it is lowest.
    """
    m = np.asarray(n, dtype=np.float64) * rho_squared(min(2 * alpha, 0.5), tuned_for)
    with np.errstate(divide="ignore"):
        bound: NDArray[np.float64] = np.sqrt(2 * (m + 1) / m * np.log1p(np.sqrt(m + 1) / (2 * alpha)))
    return bound


class Watch:
    """One share; `side` is 1 if its fall is an alarm, -1 if its rise is, 0 if both are.

    Examples
    --------
    >>> watch = Watch(side=1)
    >>> for hour in range(40):
    ...     watch.add([0.4, 0.6] * 128 if hour < 30 else [0.3, 0.5] * 128, hour * BLOCK_MS)
    >>> watch.alarms, round(watch.reference, 2), round(watch.recent, 2)  # as of the first block that made the alarm
    (1, 0.5, 0.46)
    """

    def __init__(self, side: int) -> None:
        self._side = side
        self._blocks: deque[float] = deque(maxlen=MOST_BLOCKS)
        self._sum, self._count = 0.0, 0
        self._began_ms: int | None = None
        self.alarms = 0
        # means of the newest blocks, and of those before, where a change is likeliest
        self.recent = self.reference = math.nan
        self.distance = 0.0  # as a share of what is an alarm

    def add(self, values: ArrayLike, time_ms: int) -> None:
        """Add values in the order of the stream, and the event time of the last one; NaN are left out."""
        array = np.asarray(values, dtype=np.float64)
        array = array[~np.isnan(array)]
        if self._began_ms is None:
            self._began_ms = time_ms
        self._sum, self._count = self._sum + float(array.sum()), self._count + len(array)
        if self._count >= BLOCK_VALUES and time_ms - self._began_ms >= BLOCK_MS:
            self._blocks.append(self._sum / self._count)
            self._sum, self._count, self._began_ms = 0.0, 0, time_ms
            self._look()

    def _look(self) -> None:
        newest_first = np.array(self._blocks)[::-1]
        total = len(newest_first)
        new = np.arange(LEAST_NEW, min(MOST_NEW, total - LEAST_OLD) + 1)
        if not len(new):
            return
        sums, squares, old = np.cumsum(newest_first), np.cumsum(newest_first**2), total - new
        recent, reference = sums[new - 1] / new, (sums[-1] - sums[new - 1]) / old
        variance = np.maximum(squares[-1] - squares[new - 1] - old * reference**2, 0.0) / (old - 1)
        change = (reference - recent) * self._side if self._side else np.abs(reference - recent)
        alpha = ALPHA if self._side else ALPHA / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            errors = (change - MARGIN) / np.sqrt(variance * (1 / new + 1 / old))
        distances = np.nan_to_num(errors, posinf=math.inf, neginf=-math.inf) / mixture_bound(new, alpha, TUNED_FOR)
        at = int(np.argmax(distances))
        self.recent, self.reference = float(recent[at]), float(reference[at])
        self.distance = max(float(distances[at]), 0.0)
        if self.distance >= 1:
            self.alarms += 1
            self._blocks = deque(list(self._blocks)[-int(new[at]) :], MOST_BLOCKS)  # the next change is from here


def drift_metrics(watches: Mapping[str, Watch]) -> Iterable[Metric]:
    """Return the metrics of watches by the name of what they watch."""
    for name, text in (
        ("recent", "Mean of the newest blocks."),
        ("reference", "Mean of the blocks before them."),
        ("distance", "How far they differ, as a share of what is an alarm."),
    ):
        gauge = GaugeMetricFamily(f"botify_drift_{name}", text, labels=["signal"])
        for signal, watch in watches.items():
            gauge.add_metric([signal], getattr(watch, name))
        yield gauge
    counter = CounterMetricFamily("botify_drift_alarms", "Changes for the worse that were found.", labels=["signal"])
    for signal, watch in watches.items():
        counter.add_metric([signal], watch.alarms)
    yield counter
