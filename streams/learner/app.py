"""The learner as a Faust app: it reads the catalogue, the training topic and the offsets of dead letters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from confluent_kafka.admin import AdminClient
from numpy.typing import NDArray

from core.kafka.admin import read_topic_id
from core.kafka.config import common_config
from core.settings import Settings
from schemas.catalogue import CatalogueReader
from schemas.codec import Codec
from schemas.events import Model, Track
from schemas.registry import codec_of
from schemas.rejected_before import RejectedBefore
from schemas.topics import Topics, learner_group_of
from schemas.validation import Intake
from streams.learner.metrics import LearnerCounters, ModelMetrics
from streams.learner.partition import SNAPSHOTS, LearnerPartition
from streams.store.keys import learner_prefix
from streams.store.protocol import Claim, Store
from streams.worker.faust_app import FoldingApp, FoldingConfig, make_app
from streams.worker.publisher import KafkaPublisher


class LearnerSources:
    """Open readers; blocking.

    Attributes
    ----------
    catalogue : mapping of track to Track
        Grows as tracks are added.
    intake : Intake
    left_out : mapping of (topic id, partition) to ndarray of int64
        See `LearnerPartition`.
    excluded : mapping of partition to int
        Number of listens that operators have excluded from learning (`RejectedBefore.excluded`).
    """

    def __init__(self, settings: Settings, codec: Codec) -> None:
        topics = Topics.of(settings)
        self._reader = CatalogueReader(settings, codec)
        self._reader.refresh()
        self._rejected = RejectedBefore(settings, topics.training.name)
        self._listens = RejectedBefore(settings, topics.listens.name)
        self._settings, self._listens_topic = settings, topics.listens.name
        self.left_out: dict[tuple[str, int], NDArray[np.int64]] = {}
        self.excluded: Mapping[int, int] = self._listens.excluded
        self.catalogue: Mapping[int, Track] = self._reader.tracks
        self.intake = Intake(codec, self._reader.tracks, self._reader.refresh, self._rejected.offsets)
        self.refresh()

    def refresh(self) -> None:
        """Read which records and listens became dead letters since the last call."""
        self._rejected.refresh()
        self._listens.refresh()
        if not self._listens.offsets:
            return
        admin = AdminClient(common_config(self._settings))
        topic_id = read_topic_id(admin, self._listens_topic)  # batches of an earlier topic have other offsets
        for partition, offsets in self._listens.offsets.items():
            known = self.left_out.get((topic_id, partition))
            if known is None or len(known) != len(offsets):
                self.left_out[topic_id, partition] = np.sort(np.fromiter(offsets, np.int64, len(offsets)))

    def close(self) -> None:
        """Close the consumers."""
        self._reader.close()
        self._rejected.close()
        self._listens.close()


RUN_RECORDS = 64
"""A record may hold 12,000 listens."""
CHECKPOINT_S = 2.0
"""The state is written when no record has arrived for so long."""


class LearnerApp(FoldingApp):
    """Folds the training topic into models and publishes their snapshots.

    Attributes
    ----------
    sources : LearnerSources
    publisher : Publisher
        Both are opened when the app starts.
    """

    counters: LearnerCounters
    sources: LearnerSources
    publisher: KafkaPublisher

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.counters = LearnerCounters()
        self._opened_in: Store | None = None
        self.registry.register(ModelMetrics(self.counters))

    def open_sources(self) -> None:
        """Read the catalogue and open the publisher; see `FoldingApp.open_sources`."""
        codec = codec_of(self.settings)
        self.sources = LearnerSources(self.settings, codec)
        self.publisher = KafkaPublisher(self.settings, codec)

    def refresh_sources(self) -> None:
        """Read which records were dead-lettered; see `FoldingApp.refresh_sources`."""
        self.sources.refresh()

    def close_sources(self) -> None:
        """Close what was opened; see `FoldingApp.close_sources`."""
        self.publisher.close()
        self.sources.close()

    async def open_partition(self, partition: int, claim: Claim, start: int, store: Store) -> LearnerPartition:
        """Return the partition; it loads its state with its first run or its first checkpoint."""
        if self._opened_in not in (None, store):
            await self._publish_again(partition, store)
        self._opened_in = store
        return LearnerPartition(
            partition,
            claim,
            start,
            store,
            self.sources.catalogue,
            self.sources.intake,
            self.publisher,
            self.counters,
            self.sources.left_out,
        )

    async def _publish_again(self, partition: int, store: Store) -> None:
        """Publish the snapshots of a namespace that has become the live one.

        The swap has published them, but this learner may have published others between the swap and its notice of it.
        """
        (snapshots,) = (await store.read_whole(partition, [SNAPSHOTS], []))[0].values()
        await self.publisher.emit(
            [self.sources.intake.codec.decode(snapshot, Model) for snapshot in snapshots.values()], ()
        )


def build_app(settings: Settings) -> LearnerApp:
    """Return the app, ready to be started."""
    folding = FoldingConfig(
        program="learner",
        topic=Topics.of(settings).training.name,
        group=learner_group_of(settings),
        prefix=learner_prefix(settings.topic_prefix),
        run_records=RUN_RECORDS,
        checkpoint_s=CHECKPOINT_S,
    )
    return make_app(LearnerApp, settings, folding)
