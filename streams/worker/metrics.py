"""What a worker or learner counts, for Prometheus. It is read when Prometheus asks, so counting costs no more."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from core.telemetry import DurationHistogram
from streams.folds.projection import Changes
from streams.store.connect import Writes
from streams.store.protocol import Claim, Outcome, Store
from streams.worker.partition_manager import PartitionManager


class Counted(Protocol):
    """What a program counts, from its start on."""

    fenced: int
    rolled_back: int
    rejected: dict[str, int]
    """Dead letters, by the class of their reason: all classes that there are, from the start on."""

    def described(self) -> Iterable[tuple[str, str, int]]:
        """Return name, documentation and value of each of the other counters."""


class PartitionMetrics(Collector):
    """The counters of the owned partitions.

    Parameters
    ----------
    program : str
        Part of every name.
    partitions : PartitionManager
    counters : Counted
    applies : DurationHistogram
        See `TimedStore`.
    ends : callable
        Returns partition → end offset, as of the last fetch.
    event_times : callable
        Returns partition → event time in ms, where the program knows one.
    writes : Writes
    """

    def __init__(
        self,
        program: str,
        partitions: PartitionManager,
        counters: Counted,
        applies: DurationHistogram,
        ends: Callable[[], Mapping[int, int]],
        event_times: Callable[[], Mapping[int, int]],
        writes: Writes,
    ) -> None:
        self._prefix = f"botify_{program}"
        self._partitions = partitions
        self._counters = counters
        self._applies = applies
        self._ends = ends
        self._event_times = event_times
        self._writes = writes

    def collect(self) -> Iterable[Metric]:
        """Return the metrics as they are now."""
        for name, documentation, value in self._counters.described():
            yield CounterMetricFamily(f"{self._prefix}_{name}", documentation, value=value)
        letters = CounterMetricFamily(
            f"{self._prefix}_dead_letters",
            "Records that went to the dead-letter topic, by the class of the reason.",
            labels=["reason"],
        )
        for reason, count in self._counters.rejected.items():
            letters.add_metric([reason], count)
        yield letters
        lost = CounterMetricFamily(
            f"{self._prefix}_claims_lost",
            "Applies that the store refused: another had claimed the partition, or the store had lost writes.",
            labels=["reason"],
        )
        lost.add_metric([Outcome.FENCED.value], self._counters.fenced)
        lost.add_metric([Outcome.ROLLED_BACK.value], self._counters.rolled_back)
        yield lost
        yield CounterMetricFamily(
            f"{self._prefix}_refused_writes", "Tries of writes that Redis refused.", value=self._writes.refused
        )
        yield GaugeMetricFamily(
            f"{self._prefix}_store_writable", "Whether Redis takes writes.", value=float(self._writes.problem() is None)
        )
        yield from self._by_partition()
        yield self._applies.family(f"{self._prefix}_apply_duration_seconds", "From sending a batch to its outcome.")

    def _by_partition(self) -> Iterable[Metric]:
        checkpoints, ends = self._partitions.applied(), self._ends()
        yield GaugeMetricFamily(f"{self._prefix}_partitions", "Partitions that are claimed.", value=len(checkpoints))
        checkpoint = GaugeMetricFamily(
            f"{self._prefix}_checkpoint_offset", "Next offset to be folded, as the store has it.", labels=["partition"]
        )
        lag = GaugeMetricFamily(
            f"{self._prefix}_lag_records",
            "Records between the checkpoint and the end of the partition, as of the last fetch.",
            labels=["partition"],
        )
        event_time = GaugeMetricFamily(
            f"{self._prefix}_event_time_seconds",
            "Time of the newest listen that was accepted, in seconds after 1970.",
            labels=["partition"],
        )
        for partition, event_ms in self._event_times().items():
            if partition in checkpoints and event_ms:
                event_time.add_metric([str(partition)], event_ms / 1000)
        for partition, offset in sorted(checkpoints.items()):
            checkpoint.add_metric([str(partition)], offset)
            lag.add_metric([str(partition)], max(0, ends.get(partition, offset) - offset))
        yield checkpoint
        yield lag
        yield event_time


class TimedStore:
    """A `Store` whose applies are timed."""

    def __init__(self, store: Store, applies: DurationHistogram) -> None:
        self._store = store
        self._applies = applies
        self.claim = store.claim
        self.read_whole = store.read_whole
        self.read_fields = store.read_fields

    async def apply(
        self, partition: int, claim: Claim, expected_next: int | None, new_next: int, changes: Changes
    ) -> Outcome:
        """Apply; see `Store.apply`."""
        began_s = time.perf_counter()
        outcome = await self._store.apply(partition, claim, expected_next, new_next, changes)
        self._applies.update((time.perf_counter() - began_s,))
        return outcome
