"""Counters of workers and learners, and their Prometheus metrics, which are made when Prometheus scrapes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from botify.core.drift import drift_metrics
from botify.core.errors import rejection_classes
from botify.streams.learner.drift import ListensDrift
from botify.streams.store.connect import Writes
from botify.streams.store.protocol import Outcome


@dataclass(slots=True)
class Counters:
    """What a worker or learner has counted since it started; `rejected` has all classes of reasons from the start."""

    listens: int = 0
    batches: int = 0
    fenced: int = 0
    rolled_back: int = 0
    rejected: dict[str, int] = field(default_factory=lambda: dict.fromkeys(rejection_classes(), 0))

    @property
    def dead_letters(self) -> int:
        return sum(self.rejected.values())

    def described(self) -> Iterable[tuple[str, str, int]]:
        """Return name, documentation and value of the counters that the program has of its own, for metrics."""
        return ()

    def count(self, outcome: Outcome) -> Outcome:
        """Count an outcome that ends a claim, and return it."""
        self.fenced += outcome is Outcome.FENCED
        self.rolled_back += outcome is Outcome.ROLLED_BACK
        return outcome


@dataclass(slots=True)
class WorkerCounters(Counters):
    """What a worker has counted since it started."""

    duplicates: int = 0
    sessions: int = 0

    def described(self) -> Iterable[tuple[str, str, int]]:
        yield "listens", "Listens that were folded, duplicates included.", self.listens
        yield "batches", "Batches that were applied to the store.", self.batches
        yield "duplicates", "Listens that were dropped because their event id had been met.", self.duplicates
        yield "sessions_closed", "Sessions that were closed.", self.sessions


@dataclass(slots=True)
class FeedbackCounters(WorkerCounters):
    """What a worker has counted of the feedback since it started."""

    def described(self) -> Iterable[tuple[str, str, int]]:
        yield "records", "Likes, dislikes and what withdraws them that were folded.", self.listens


@dataclass(slots=True)
class LearnerCounters(Counters):
    """What a learner has counted since it started; the dicts are by model, `snapshot_bytes` of the newest snapshot."""

    snapshots: int = 0
    missed: int = 0
    forgotten: Counter[str] = field(default_factory=Counter)
    too_large: Counter[str] = field(default_factory=Counter)
    snapshot_bytes: dict[str, int] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)
    drift: ListensDrift = field(default_factory=ListensDrift, repr=False)

    def described(self) -> Iterable[tuple[str, str, int]]:
        yield "listens", "Listens that were learned from.", self.listens
        yield "batches", "Training batches that were folded, copies included.", self.batches
        yield "snapshots", "Snapshots of models that were published.", self.snapshots
        yield "missed", "Offsets of the listens topic that no training batch has brought.", self.missed


@dataclass(frozen=True, slots=True, eq=False)
class PartitionMetrics(Collector):
    """The metrics of the owned partitions, whose names contain `program`.

    `checkpoints` returns those of the partitions, `ends` end offsets as of the last fetch, `event_times` event times in
    ms, if the program has one.
    """

    program: str
    checkpoints: Callable[[], Mapping[int, int]]
    counters: Counters
    ends: Callable[[], Mapping[int, int]]
    event_times: Callable[[], Mapping[int, int]]
    writes: Writes

    def collect(self) -> Iterable[Metric]:
        prefix, counters, writes = f"botify_{self.program}", self.counters, self.writes
        for name, text, value in counters.described():
            yield CounterMetricFamily(f"{prefix}_{name}", text, value=value)
        text = "Records that went to the dead-letter topic, by the class of the reason."
        yield _labelled(CounterMetricFamily, f"{prefix}_dead_letters", text, "reason", counters.rejected)
        text = "Applies that the store refused: another had claimed the partition, or the store had lost writes."
        lost = {Outcome.FENCED.value: counters.fenced, Outcome.ROLLED_BACK.value: counters.rolled_back}
        yield _labelled(CounterMetricFamily, f"{prefix}_claims_lost", text, "reason", lost)
        text = "Tries of writes that Redis refused."
        yield CounterMetricFamily(f"{prefix}_refused_writes", text, value=writes.refused)
        writable = float(writes.problem() is None)
        yield GaugeMetricFamily(f"{prefix}_store_writable", "Whether Redis takes writes.", value=writable)
        yield from self._by_partition()
        yield writes.durations.family(f"{prefix}_apply_duration_seconds", "From sending a batch to its outcome.")

    def _by_partition(self) -> Iterable[Metric]:
        prefix, ends = f"botify_{self.program}", self.ends()
        checkpoints = dict(sorted(self.checkpoints().items()))
        yield GaugeMetricFamily(f"{prefix}_partitions", "Partitions that are claimed.", value=len(checkpoints))
        lags = {partition: max(0, ends.get(partition, offset) - offset) for partition, offset in checkpoints.items()}
        times = self.event_times().items()
        times_s = {partition: ms / 1000 for partition, ms in times if partition in checkpoints and ms}
        for name, documentation, values in (
            ("checkpoint_offset", "Next offset to be folded, as the store has it.", checkpoints),
            ("lag_records", "Records between the checkpoint and the end of the partition, as of the last fetch.", lags),
            ("event_time_seconds", "Time of the newest listen that was accepted, in seconds after 1970.", times_s),
        ):
            yield _labelled(GaugeMetricFamily, f"{prefix}_{name}", documentation, "partition", values)


def _labelled(
    kind: Callable[..., Metric], name: str, documentation: str, label: str, values: Mapping[Any, float]
) -> Metric:
    family: Any = kind(name, documentation, labels=[label])
    for of, value in values.items():
        family.add_metric([str(of)], value)
    made: Metric = family
    return made


class ModelMetrics(Collector):
    """The learner's metrics by model; a snapshot has at most `most_bytes`."""

    def __init__(self, counters: LearnerCounters, models: Iterable[str], most_bytes: int) -> None:
        self._counters, self._most_bytes = counters, most_bytes
        self._models = tuple(models)

    def collect(self) -> Iterable[Metric]:
        counters, gauge = self._counters, GaugeMetricFamily
        yield from drift_metrics(counters.drift.watches)
        text = "Size of the newest snapshot that was published."
        yield _labelled(gauge, "botify_learner_snapshot_bytes", text, "model", counters.snapshot_bytes.copy())
        text = "Entries, such as neighbours, that the newest snapshot left out to fit; only of models that do so."
        yield _labelled(gauge, "botify_learner_snapshot_cut", text, "model", counters.cut.copy())
        text = "Size of the largest snapshot that a model makes."
        yield gauge("botify_learner_snapshot_limit_bytes", text, value=self._most_bytes)
        for what, text, counted in (
            ("forgotten_tracks", "Tracks that a model forgot to make room for others.", counters.forgotten),
            ("snapshots_too_large", "Snapshots that had no room and were left out.", counters.too_large),
        ):
            values = {name: counted[name] for name in self._models}
            yield _labelled(CounterMetricFamily, f"botify_learner_{what}", text, "model", values)
