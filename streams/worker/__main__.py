"""`python -m botify.streams.worker`: listens and feedback in; user state, opinions, popularity and sessions out.

It runs until SIGTERM; several workers share the partitions.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from botify.core.settings import Settings
from botify.schemas.catalogue import CatalogueReader
from botify.schemas.dead_letters import Letters, RejectedBefore
from botify.schemas.event_time import Lead
from botify.schemas.registry import codec_of
from botify.schemas.topics import Topics, check_training, feedback_group_of, worker_group_of
from botify.schemas.validation import Intake
from botify.streams.folds.popularity import TrackRows
from botify.streams.store.connect import FOLDING_TIMEOUT_S, connect_async
from botify.streams.store.keys import feedback_of
from botify.streams.store.namespaces import NamespaceRecords, live_namespace
from botify.streams.store.protocol import Claim, Store
from botify.streams.worker.faust_app import FoldingApp, FoldingConfig, make_app, run
from botify.streams.worker.folding import READ_S, ColumnsWhenCompiled, by_feedback
from botify.streams.worker.metrics import FeedbackCounters, WorkerCounters
from botify.streams.worker.partition import KafkaPublisher, WorkerPartition

BATCH_RECORDS = 32_000
"""More than `FETCH_BYTES` usually hold, so that a fetch is one batch unless its records compress well."""
FEEDBACK_RECORDS = 1_000  # the opinions of at most this number of listeners are in memory at a time, each up to 26 KB


class WorkerApp(FoldingApp):
    """Folds the listens; `of_feedback` is what partitions of the feedback need, once the sources are open."""

    counters: WorkerCounters
    of_feedback: tuple[Intake, KafkaPublisher]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.counters = WorkerCounters()
        self._opened: dict[int, WorkerPartition] = {}
        self._begun: dict[int, Letters | None] = {}

    def event_times(self) -> dict[int, int]:
        return {partition: opened.event_time.newest_ms for partition, opened in dict(self._opened).items()}

    def open_sources(self) -> None:
        settings, codec = self.settings, codec_of(self.settings)
        self._folding = ColumnsWhenCompiled()
        check_training(settings)
        self._catalogue = CatalogueReader(settings, codec)
        self._catalogue.refresh()
        self._publisher = KafkaPublisher(settings, codec)
        feedback = Topics.of(settings).feedback.name
        self._rejected = RejectedBefore(settings, self.folding.topic, feedback, begun=self._begun.get)
        tracks, lead = self._catalogue.tracks, Lead.of(settings)
        self._intake = Intake(codec, tracks, self._catalogue.refresh, self._rejected.offsets, lead)
        of_feedback = Intake(codec, rejected_before=self._rejected.offsets_of[feedback], lead=lead)
        self.of_feedback = of_feedback, self._publisher
        self._rows = TrackRows()
        self._folding.wait(READ_S)  # others fold its partitions until it joins the group

    def refresh_sources(self) -> None:
        self._rejected.refresh()

    def letters(self) -> Letters:
        return self._rejected.reached

    def close_sources(self) -> None:
        self._publisher.close()
        self._catalogue.close()
        self._rejected.close()

    async def open_partition(self, partition: int, claim: Claim, start: int, store: Store) -> WorkerPartition:
        """Return the partition; it reads its state with its first batch."""
        self._begun[partition] = claim.letters
        await asyncio.to_thread(self._rejected.count, partition)
        opening = (partition, claim, start, store, self._intake, self._publisher, self.counters)
        claimed = self._opened[partition] = WorkerPartition(
            *opening, rows=self._rows, training=self.settings.training == "on", folding=self._folding
        )
        return claimed


class FeedbackApp(FoldingApp):
    """Folds the feedback, with what a worker has opened: it starts first, and stops last."""

    worker: WorkerApp
    counters: FeedbackCounters

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.counters = FeedbackCounters()

    def refresh_sources(self) -> None:
        self.worker.refresh_sources()

    async def open_partition(self, partition: int, claim: Claim, start: int, store: Store) -> WorkerPartition:
        intake, publisher = self.worker.of_feedback
        opening = (partition, claim, start, store, intake, publisher, self.counters)
        return WorkerPartition(*opening, training=self.settings.training == "on", folding=by_feedback)


def build_app(settings: Settings) -> WorkerApp:
    """Return the app, ready to be started."""
    topics, prefix = Topics.of(settings), settings.topic_prefix
    listens = FoldingConfig("worker", topics.listens.name, worker_group_of(settings), prefix, BATCH_RECORDS)
    app = make_app(WorkerApp, settings, listens)
    said = FoldingConfig("feedback", topics.feedback.name, feedback_group_of(settings), prefix, FEEDBACK_RECORDS)
    feedback = make_app(FeedbackApp, settings, replace(said, state_in=feedback_of))
    feedback.worker = app
    app.run_with(feedback)
    return app


def main() -> None:
    """Run the worker; the exit status is not 0 if it failed."""
    run(lambda settings: build_app(asyncio.get_event_loop().run_until_complete(_with_live_layout(settings))))


async def _with_live_layout(settings: Settings) -> Settings:
    """Return the settings with the layout of the live namespace: of the topic that workers fold."""
    async with aclosing(connect_async(settings, FOLDING_TIMEOUT_S)) as redis:
        live = await live_namespace(redis, settings.topic_prefix)
        record = await NamespaceRecords(redis, settings.topic_prefix).find(live)
    if record is None or record.partitions is None:
        return settings
    return settings.with_(layout=record.layout, partitions=record.partitions)


if __name__ == "__main__":
    main()
