"""The learner's app: training batches in, models out."""

from __future__ import annotations

from typing import Any

from schemas.codec import Codec
from schemas.settings import Settings
from schemas.topics import Topics
from streams.learner.partition import Counters, LearningPartition, open_partition
from streams.learner.sources import LearningSources
from streams.store.keys import learner_prefix
from streams.store.protocol import Claim, Store
from streams.worker.broker import learner_group_of
from streams.worker.emitter import Emitter
from streams.worker.folding_app import Folding, FoldingApp, make_app

RUN_RECORDS = 64
"""A record may hold 12,000 listens."""
SETTLE_S = 2.0


class LearnerApp(FoldingApp):
    """Learns."""

    counters: Counters

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.counters = Counters()

    def open_sources(self) -> None:
        """Read the catalogue and open the emitter; see `FoldingApp.open_sources`."""
        codec = Codec()
        self._sources = LearningSources(self.settings, codec)
        self._emitter = Emitter(self.settings, codec)

    def refresh_sources(self) -> None:
        """Read which records were dead-lettered; see `FoldingApp.refresh_sources`."""
        self._sources.refresh()

    def close_sources(self) -> None:
        """Close what was opened; see `FoldingApp.close_sources`."""
        self._emitter.close()
        self._sources.close()

    async def open_partition(self, partition: int, claim: Claim, start: int, store: Store) -> LearningPartition:
        """Return the partition, with its state."""
        sources = self._sources
        return await open_partition(
            partition, claim, start, store, sources.catalogue, sources.intake, self._emitter, self.counters
        )


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
