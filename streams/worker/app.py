"""The Faust app, wired. Everything is chosen here; nothing is made at import."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Any

from faust.sensors.prometheus import setup_prometheus_sensors
from faust.types import TP

from schemas.catalogue import CatalogueReader
from schemas.codec import Codec
from schemas.observing.histogram import DurationHistogram
from schemas.observing.probes import Heartbeat
from schemas.observing.server import new_registry, observed
from schemas.settings import Settings
from schemas.topics import Topics
from streams.store.connect import connect_async
from streams.store.namespaces import LiveNamespace, live_namespace
from streams.store.protocol import Store
from streams.store.redis_store import RedisStore
from streams.worker.broker import TopicWatch, describe_topic, group_of
from streams.worker.credentials import broker_credentials
from streams.worker.emitter import Emitter
from streams.worker.failpoints import with_failpoints
from streams.worker.intake import Intake
from streams.worker.metrics import TimedStore, WorkerMetrics
from streams.worker.ownership import OwnedPartitions
from streams.worker.rejected_before import RejectedBefore
from streams.worker.topic_state import TopicState
from streams.worker.transport import BatchApp, BatchConsumer, RunSchema, broker_urls

log = logging.getLogger(__name__)

TOPIC_CHECK_S = 5.0
NAMESPACE_CHECK_S = 0.5
HEARTBEAT_S = 1.0
FETCH_BYTES = 1024 * 1024
RUN_RECORDS = 12_000
"""At the most, in one run. It is more than `FETCH_BYTES` hold, so a fetch gives each partition one run, none two.

The longer the run, the fewer states are written: a listener who comes ten times in a run is written once.
"""


class WorkerApp(BatchApp):
    """The listens agent, and what it needs while it runs."""

    settings: Settings
    partitions: OwnedPartitions
    consumer: BatchConsumer

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.registry = new_registry()
        self.heartbeat = Heartbeat()
        self._applies = DurationHistogram()
        self._served = ExitStack()

    async def on_start(self) -> None:
        """Read the catalogue and connect; partitions are claimed when the group assigns them."""
        await super().on_start()
        settings, codec = self.settings, Codec()
        topic = Topics.of(settings).listens.name
        self._catalogue = CatalogueReader(settings, codec)
        await asyncio.to_thread(self._catalogue.refresh)
        self._emitter = Emitter(settings, codec)
        self._redis = connect_async(settings)
        namespace = await live_namespace(self._redis, settings.topic_prefix)
        self._namespace = LiveNamespace(self._redis, settings.topic_prefix, seen=namespace)
        self._rejected = RejectedBefore(settings)
        self.partitions = OwnedPartitions(
            topic=topic,
            store=self._store_of(namespace),
            intake=Intake(codec, self._catalogue.tracks, self._catalogue.refresh, self._rejected.offsets),
            emits=self._emitter,
            describe_topic=lambda: asyncio.to_thread(self._before_claim, topic),
            seek=lambda partition, offset: self.consumer.seek_back(TP(topic, partition), offset),
            reclaim_after_s=settings.session_timeout_s,
            rebuild_missing=settings.on_missing_state == "rebuild",
        )
        self.registry.register(WorkerMetrics(self.partitions, self._applies, self._ends))
        self._served.enter_context(
            observed(settings, self.registry, alive=self.heartbeat.probe, ready=self._missing_for_ready)
        )

    async def another_store(self) -> Store | None:
        """Return the store of the live namespace, where another one has become that."""
        namespace = await self._namespace.look()
        return None if namespace is None else self._store_of(namespace)

    def _store_of(self, namespace: str) -> Store:
        return TimedStore(with_failpoints(RedisStore(self._redis, namespace)), self._applies)

    def _missing_for_ready(self) -> str | None:
        return None if self.partitions.claimed else "the assigned partitions are not claimed yet"

    def _ends(self) -> dict[int, int]:
        return {tp.partition: end for tp, end in dict(self.monitor.tp_end_offsets).items()}

    def _before_claim(self, topic: str) -> TopicState:
        """Read what a claim goes by: which records were dead-lettered, and the topic's bounds."""
        self._rejected.refresh()
        return describe_topic(self.settings, topic)

    async def on_stop(self) -> None:
        """Let go of the partitions, then of the connections."""
        self._served.close()
        await self.partitions.release()
        await super().on_stop()
        await asyncio.to_thread(self._emitter.close)
        await asyncio.to_thread(self._catalogue.close)
        await asyncio.to_thread(self._rejected.close)
        await self._redis.aclose()
        log.info("stopped: %s", self.partitions.counters)


def build_app(settings: Settings) -> WorkerApp:
    """Return the app, ready to be started."""
    app = WorkerApp(
        group_of(settings),
        broker=broker_urls(settings.kafka_bootstrap_servers),
        broker_credentials=broker_credentials(settings),
        datadir=settings.home / "faust",
        topic_disable_leader=True,
        topic_allow_declare=False,
        # With replicas Faust's own assignor takes over, which leaves workers idle (4 partitions on 3: 2, 2, none).
        table_standby_replicas=0,
        web_enabled=False,
        agent_supervisor="mode.supervisors.CrashingSupervisor",
        broker_max_poll_records=RUN_RECORDS,
        broker_session_timeout=float(settings.session_timeout_s),
        broker_heartbeat_interval=settings.session_timeout_s / 5,
        broker_commit_interval=1.0,
        broker_check_crcs=False,
        consumer_auto_offset_reset="none",
        consumer_max_fetch_size=FETCH_BYTES,
        stream_buffer_maxsize=8,
        stream_wait_empty=False,
    )
    app.settings = settings
    if settings.metrics_port is not None:
        # Faust's own sensor; its "messages" are our runs of records, and its durations are in milliseconds
        setup_prometheus_sensors(app, registry=app.registry, name_prefix="faust")

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

    @app.task  # type: ignore[untyped-decorator]
    async def follow_the_live_namespace() -> None:
        await app.partitions.follow_namespace(app.another_store, NAMESPACE_CHECK_S)

    @app.task  # type: ignore[untyped-decorator]
    async def beat() -> None:
        while True:
            app.heartbeat.beat()
            await asyncio.sleep(HEARTBEAT_S)

    return app
