"""The Faust app, wired. Everything is chosen here; nothing is made at import."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

from faust.types import TP

from schemas.catalogue import CatalogueReader
from schemas.codec import Codec
from schemas.settings import Settings
from schemas.topics import Topics
from streams.store.connect import connect_async
from streams.store.keys import default_namespace, namespace_pointer
from streams.store.redis_store import RedisStore
from streams.worker.broker import TopicWatch, describe_topic, group_of
from streams.worker.emitter import Emitter
from streams.worker.failpoints import with_failpoints
from streams.worker.intake import Intake
from streams.worker.ownership import OwnedPartitions
from streams.worker.transport import BatchApp, BatchConsumer, RunSchema, broker_urls

log = logging.getLogger(__name__)

TOPIC_CHECK_S = 5.0
RUN_RECORDS = 8_000
"""Records of one fetch, over all partitions."""


class WorkerApp(BatchApp):
    """The listens agent, and what it needs while it runs."""

    settings: Settings
    partitions: OwnedPartitions
    consumer: BatchConsumer

    async def on_start(self) -> None:
        """Read the catalogue and connect; partitions are claimed when the group assigns them."""
        await super().on_start()
        settings, codec = self.settings, Codec()
        topic = Topics.of(settings).listens.name
        self._catalogue = CatalogueReader(settings, codec)
        await asyncio.to_thread(self._catalogue.refresh)
        self._emitter = Emitter(settings, codec)
        self._redis = connect_async(settings)
        pointer = await self._redis.get(namespace_pointer(settings.topic_prefix))
        namespace = pointer.decode() if pointer else default_namespace(settings.topic_prefix)
        self.partitions = OwnedPartitions(
            topic=topic,
            store=with_failpoints(RedisStore(self._redis, namespace)),
            intake=Intake(codec, self._catalogue.tracks, self._catalogue.refresh),
            emits=self._emitter,
            describe_topic=lambda: asyncio.to_thread(describe_topic, settings, topic),
            seek=lambda partition, offset: self.consumer.seek_back(TP(topic, partition), offset),
            reclaim_after_s=settings.session_timeout_s,
            rebuild_missing=settings.on_missing_state == "rebuild",
        )

    async def on_stop(self) -> None:
        """Let go of the partitions, then of the connections."""
        await self.partitions.release()
        await super().on_stop()
        await asyncio.to_thread(self._emitter.close)
        await asyncio.to_thread(self._catalogue.close)
        await self._redis.aclose()
        log.info("stopped: %s", self.partitions.counters)


def build_app(settings: Settings) -> WorkerApp:
    """Return the app, ready to be started."""
    app = WorkerApp(
        group_of(settings),
        broker=broker_urls(settings.kafka_bootstrap_servers),
        datadir=settings.home / "faust",
        topic_disable_leader=True,
        topic_allow_declare=False,
        web_enabled=False,
        agent_supervisor="mode.supervisors.CrashingSupervisor",
        broker_max_poll_records=RUN_RECORDS,
        broker_session_timeout=float(settings.session_timeout_s),
        broker_heartbeat_interval=settings.session_timeout_s / 5,
        broker_commit_interval=1.0,
        broker_check_crcs=False,
        consumer_auto_offset_reset="none",
        stream_buffer_maxsize=16,
        stream_wait_empty=False,
    )
    app.settings = settings

    @app.agent(app.topic(Topics.of(settings).listens.name, schema=RunSchema()))
    async def fold(runs: Any) -> AsyncIterator[None]:
        async for run in runs.noack():
            await app.partitions.submit(run)
            yield

    @app.task  # type: ignore[untyped-decorator]
    async def stop_when_a_partition_fails() -> None:
        await app.partitions.failed

    @app.task  # type: ignore[untyped-decorator]
    async def stop_when_the_topic_is_another() -> None:
        watch = TopicWatch(settings, Topics.of(settings).listens.name)
        await app.partitions.watch_topic(lambda: asyncio.to_thread(watch.read_id), TOPIC_CHECK_S)

    return app
