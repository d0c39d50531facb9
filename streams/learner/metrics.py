"""The learner's counters and metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from core.errors import rejection_classes
from schemas.models import MAX_BODY_BYTES
from streams.learner.model import MODELS
from streams.store.protocol import Outcome


@dataclass(slots=True)
class LearnerCounters:
    """What the learner has counted since it started.

    Attributes
    ----------
    forgotten, too_large : Counter of str
        By model; see `Outgrown`.
    snapshot_bytes : dict of str to int
        Size of each model's newest snapshot.
    """

    listens: int = 0
    batches: int = 0
    rejected: dict[str, int] = field(default_factory=lambda: dict.fromkeys(rejection_classes(), 0))
    """Dead letters, by the class of their reason."""
    snapshots: int = 0
    missed: int = 0
    fenced: int = 0
    rolled_back: int = 0
    forgotten: Counter[str] = field(default_factory=Counter)
    too_large: Counter[str] = field(default_factory=Counter)
    snapshot_bytes: dict[str, int] = field(default_factory=dict)

    @property
    def dead_letters(self) -> int:
        """The sum of `rejected`."""
        return sum(self.rejected.values())

    def described(self) -> Iterable[tuple[str, str, int]]:
        """Return name, documentation and value of each, for metrics."""
        return (
            ("listens", "Listens that were learned from.", self.listens),
            ("batches", "Training batches that were folded, copies included.", self.batches),
            ("snapshots", "Snapshots of models that were published.", self.snapshots),
            ("missed", "Offsets of the listens topic that no training batch has brought.", self.missed),
        )

    def count(self, outcome: Outcome) -> Outcome:
        """Count an outcome that ends a claim, and return it."""
        if outcome is Outcome.FENCED:
            self.fenced += 1
        elif outcome is Outcome.ROLLED_BACK:
            self.rolled_back += 1
        return outcome


class ModelMetrics(Collector):
    """The learner's metrics by model."""

    def __init__(self, counters: LearnerCounters) -> None:
        self._counters = counters

    def collect(self) -> Iterable[Metric]:
        """Return the metrics as they are now."""
        sizes = GaugeMetricFamily(
            "botify_learner_snapshot_bytes", "Size of the newest snapshot that was published.", labels=["model"]
        )
        for name, size in self._counters.snapshot_bytes.copy().items():
            sizes.add_metric([name], size)
        yield sizes
        yield GaugeMetricFamily(
            "botify_learner_snapshot_limit_bytes", "Largest snapshot that has room in a record.", value=MAX_BODY_BYTES
        )
        for what, documentation, counted in (
            ("forgotten_tracks", "Tracks that a model forgot to make room for others.", self._counters.forgotten),
            ("snapshots_too_large", "Snapshots that had no room and were left out.", self._counters.too_large),
        ):
            family = CounterMetricFamily(f"botify_learner_{what}", documentation, labels=["model"])
            for kind in MODELS:
                family.add_metric([kind.name], counted[kind.name])
            yield family
