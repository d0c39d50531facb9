"""`python -m streams.worker`: the worker. Listens in; user state, popularity and sessions out.

It runs until SIGTERM; several workers share the partitions.
"""

from __future__ import annotations

import asyncio
from typing import Any

from core.kafka.column_fetch import fetch_columns
from core.settings import Settings
from schemas.catalogue import CatalogueReader
from schemas.dead_letters import RejectedBefore
from schemas.registry import codec_of
from schemas.topics import Topics, check_training, worker_group_of
from schemas.validation import Intake
from streams.folds.popularity import TrackRows
from streams.store.connect import FOLDING_TIMEOUT_S, connect_async
from streams.store.namespaces import with_live_layout
from streams.store.protocol import Claim, Store
from streams.worker.faust_app import FoldingApp, FoldingConfig, make_app, run
from streams.worker.folding import ColumnsWhenCompiled
from streams.worker.metrics import WorkerCounters
from streams.worker.partition import KafkaPublisher, WorkerPartition

RUN_RECORDS = 24_000
"""About what `FETCH_BYTES` hold, so that a fetch gives a partition one run unless its records compress well."""


class WorkerApp(FoldingApp):
    """Folds the listens."""

    counters: WorkerCounters

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.counters = WorkerCounters()
        self._opened: dict[int, WorkerPartition] = {}

    def event_times(self) -> dict[int, int]:
        """Return the event time of each partition; see `FoldingApp.event_times`."""
        return {partition: opened.event_time.newest_ms for partition, opened in dict(self._opened).items()}

    def open_sources(self) -> None:
        """Read the catalogue and open the publisher; see `FoldingApp.open_sources`."""
        settings, codec = self.settings, codec_of(self.settings)
        check_training(settings)
        self._catalogue = CatalogueReader(settings, codec)
        self._catalogue.refresh()
        self._publisher = KafkaPublisher(settings, codec)
        self._rejected = RejectedBefore(settings, self.folding.topic)
        self._intake = Intake(codec, self._catalogue.tracks, self._catalogue.refresh, self._rejected.offsets)
        self._rows = TrackRows()
        self._folding = ColumnsWhenCompiled(on_ready=fetch_columns)

    def refresh_sources(self) -> None:
        """Read which records were dead-lettered; see `FoldingApp.refresh_sources`."""
        self._rejected.refresh()

    def close_sources(self) -> None:
        """Close what was opened; see `FoldingApp.close_sources`."""
        self._publisher.close()
        self._catalogue.close()
        self._rejected.close()

    async def open_partition(self, partition: int, claim: Claim, start: int, store: Store) -> WorkerPartition:
        """Return the partition; it reads its state with its first run."""
        claimed = self._opened[partition] = WorkerPartition(
            partition,
            claim,
            start,
            store,
            self._intake,
            self._publisher,
            self.counters,
            rows=self._rows,
            training=self.settings.training == "on",
            folding=self._folding,
        )
        return claimed


def build_app(settings: Settings) -> WorkerApp:
    """Return the app, ready to be started."""
    folding = FoldingConfig(
        program="worker",
        topic=Topics.of(settings).listens.name,
        group=worker_group_of(settings),
        prefix=settings.topic_prefix,
        run_records=RUN_RECORDS,
    )
    return make_app(WorkerApp, settings, folding)


def main() -> None:
    """Run the worker; the exit status is not 0 if it failed."""
    run(lambda settings: build_app(asyncio.get_event_loop().run_until_complete(_of_live_state(settings))))


async def _of_live_state(settings: Settings) -> Settings:
    """Return the settings with the layout of the live state: a worker folds that topic."""
    redis = connect_async(settings, FOLDING_TIMEOUT_S)
    try:
        return await with_live_layout(redis, settings)
    finally:
        await redis.aclose()


if __name__ == "__main__":
    main()
