"""The learner's app: training batches in, models out."""

from __future__ import annotations

from typing import Any

from schemas.events import Model
from schemas.registry import codec_of
from schemas.settings import Settings
from schemas.topics import Topics
from streams.learner.counters import Counters, ModelMetrics
from streams.learner.partition import SNAPSHOTS, LearningPartition
from streams.learner.sources import LearningSources
from streams.store.keys import learner_prefix
from streams.store.protocol import Claim, Store
from streams.worker.broker import learner_group_of
from streams.worker.emitter import Emitter
from streams.worker.folding_app import Folding, FoldingApp, make_app

RUN_RECORDS = 64
"""A record may hold 12,000 listens."""
SETTLE_S = 2.0
"""A pause in what comes is as long, before the state is written."""


class LearnerApp(FoldingApp):
    """Learns."""

    counters: Counters

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.counters = Counters()
        self._opened_in: Store | None = None
        self.registry.register(ModelMetrics(self.counters))

    def open_sources(self) -> None:
        """Read the catalogue and open the emitter; see `FoldingApp.open_sources`."""
        self._codec = codec_of(self.settings)
        self._sources = LearningSources(self.settings, self._codec)
        self._emitter = Emitter(self.settings, self._codec)

    def refresh_sources(self) -> None:
        """Read which records were dead-lettered; see `FoldingApp.refresh_sources`."""
        self._sources.refresh()

    def close_sources(self) -> None:
        """Close what was opened; see `FoldingApp.close_sources`."""
        self._emitter.close()
        self._sources.close()

    async def open_partition(self, partition: int, claim: Claim, start: int, store: Store) -> LearningPartition:
        """Return the partition; it reads its state with its first run, or when it is settled."""
        if self._opened_in not in (None, store):
            await self._publish_again(partition, store)
        self._opened_in = store
        return LearningPartition(
            partition,
            claim,
            start,
            store,
            self._sources.catalogue,
            self._sources.intake,
            self._emitter,
            self._codec.encode,
            self.counters,
        )

    async def _publish_again(self, partition: int, store: Store) -> None:
        """Publish the snapshots of a namespace that has become the live one.

        Who made it live has published them. But this learner may have published others since, before it heard of it.
        """
        (snapshots,) = (await store.read_whole(partition, [SNAPSHOTS], []))[0].values()
        await self._emitter.emit([self._codec.decode(snapshot, Model) for snapshot in snapshots.values()], ())


def build_app(settings: Settings) -> LearnerApp:
    """Return the app, ready to be started."""
    folding = Folding(
        program="learner",
        topic=Topics.of(settings).training.name,
        group=learner_group_of(settings),
        prefix=learner_prefix(settings.topic_prefix),
        run_records=RUN_RECORDS,
        settle_s=SETTLE_S,
    )
    return make_app(LearnerApp, settings, folding)
