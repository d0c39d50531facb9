"""What a worker counts, for Prometheus. It is read when Prometheus asks, so counting costs what it did before."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from schemas.observing.histogram import DurationHistogram
from streams.folds.projection import Changes
from streams.store.protocol import Claim, Outcome, Store
from streams.worker.ownership import OwnedPartitions


class WorkerMetrics(Collector):
    """The counters of the owned partitions.

    Parameters
    ----------
    partitions : OwnedPartitions
    applies : DurationHistogram
        See `TimedStore`.
    ends : callable
        Returns partition → end offset, as of the last fetch.
    """

    def __init__(
        self, partitions: OwnedPartitions, applies: DurationHistogram, ends: Callable[[], Mapping[int, int]]
    ) -> None:
        self._partitions = partitions
        self._applies = applies
        self._ends = ends

    def collect(self) -> Iterable[Metric]:
        """Return the metrics as they are now."""
        done = self._partitions.counters
        for name, documentation, value in (
            ("listens", "Listens that were folded, duplicates included.", done.listens),
            ("batches", "Batches that were applied to the store.", done.batches),
            ("duplicates", "Listens that were dropped because their event id had been met.", done.duplicates),
            ("dead_letters", "Records that went to the dead-letter topic.", done.dead_letters),
            ("sessions_closed", "Sessions that were closed.", done.sessions),
        ):
            yield CounterMetricFamily(f"botify_worker_{name}", documentation, value=value)
        lost = CounterMetricFamily(
            "botify_worker_claims_lost",
            "Applies that the store refused: another worker had claimed the partition, or the store had lost writes.",
            labels=["reason"],
        )
        lost.add_metric([Outcome.FENCED.value], done.fenced)
        lost.add_metric([Outcome.ROLLED_BACK.value], done.rolled_back)
        yield lost
        yield from self._by_partition()
        yield self._applies.family("botify_worker_apply_duration_seconds", "From sending a batch to its outcome.")

    def _by_partition(self) -> Iterable[Metric]:
        checkpoints, ends = self._partitions.applied(), self._ends()
        yield GaugeMetricFamily("botify_worker_partitions", "Partitions that are claimed.", value=len(checkpoints))
        checkpoint = GaugeMetricFamily(
            "botify_worker_checkpoint_offset", "Next offset to be folded, as the store has it.", labels=["partition"]
        )
        lag = GaugeMetricFamily(
            "botify_worker_lag_records",
            "Records between the checkpoint and the end of the partition, as of the last fetch.",
            labels=["partition"],
        )
        for partition, offset in sorted(checkpoints.items()):
            checkpoint.add_metric([str(partition)], offset)
            lag.add_metric([str(partition)], max(0, ends.get(partition, offset) - offset))
        yield checkpoint
        yield lag


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
