"""`python -m botify.streams.learner`: the learner as a Faust app. The training topic in, models out.

It runs until SIGTERM. Several learners share the shards: each partition of the topic has one that learns from it.
"""

from __future__ import annotations

import asyncio
from typing import Any

from botify.core.numba_cache import give_back_compiler
from botify.core.settings import Settings
from botify.schemas.dead_letters import Letters
from botify.schemas.events import Model
from botify.schemas.models import learned_body_bytes
from botify.schemas.registry import codec_of
from botify.schemas.topics import Topics, check_training, learner_group_of
from botify.streams.learner.model import MODELS
from botify.streams.learner.models import factors, next_track
from botify.streams.learner.partition import SNAPSHOTS, TICK_S, LearnerPartition, LearnerSources
from botify.streams.store.keys import learner_prefix
from botify.streams.store.protocol import Claim, Store
from botify.streams.worker.faust_app import FoldingApp, FoldingConfig, make_app, run
from botify.streams.worker.metrics import LearnerCounters, ModelMetrics
from botify.streams.worker.partition import KafkaPublisher

BATCH_RECORDS = 64  # a record may hold 12,000 listens


class LearnerApp(FoldingApp):
    """Folds the training topic into models and publishes their snapshots."""

    counters: LearnerCounters
    sources: LearnerSources
    publisher: KafkaPublisher

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.counters = LearnerCounters()
        self._opened_in: dict[int, Store] = {}

    def open_sources(self) -> None:
        factors.warm_up()
        next_track.warm_up()
        give_back_compiler()
        check_training(self.settings)
        codec = codec_of(self.settings)
        self.sources = LearnerSources(self.settings, codec)
        self.publisher = KafkaPublisher(self.settings, codec)

    def refresh_sources(self) -> None:
        self.sources.refresh()

    def letters(self) -> Letters:
        return self.sources.letters

    def close_sources(self) -> None:
        self.publisher.close()
        self.sources.close()

    async def open_partition(self, partition: int, claim: Claim, start: int, store: Store) -> LearnerPartition:
        """Return the partition; it loads its state with its first batch or its first checkpoint."""
        await self.publisher.begin_models()
        if self._opened_in.get(partition, store) != store:
            await self._publish_again(partition, store)
        self._opened_in[partition] = store
        opening = (partition, claim, start, store, self.publisher, self.counters)
        return await asyncio.to_thread(self.sources.open, *opening)

    async def _publish_again(self, partition: int, store: Store) -> None:
        """Publish the snapshots of the namespace that is live now: others may have been published since the swap."""
        (snapshots,) = (await store.read_whole(partition, [SNAPSHOTS], []))[0].values()
        decode = self.sources.intake.codec.decode
        await self.publisher.emit([decode(snapshot, Model) for snapshot in snapshots.values()], ())


def build_app(settings: Settings) -> LearnerApp:
    """Return the app, ready to be started."""
    topic, prefix = Topics.of(settings).training.name, learner_prefix(settings.topic_prefix)
    folding = FoldingConfig("learner", topic, learner_group_of(settings), prefix, BATCH_RECORDS, TICK_S)
    app = make_app(LearnerApp, settings, folding)
    app.registry.register(ModelMetrics(app.counters, [kind.name for kind in MODELS], learned_body_bytes(settings)))
    return app


def main() -> None:
    """Run the learner; the exit status is not 0 if it failed."""
    run(build_app)


if __name__ == "__main__":
    main()
