"""A Faust app that folds one topic into the store, and its process. Nothing is created at import."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from signal import SIGTERM, Signals
from typing import Any, TypeVar

import faust
import uvloop
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from faust.sensors.prometheus import setup_prometheus_sensors
from faust.types import TP
from redis.exceptions import RedisError

from botify.core.errors import BotifyError, NoBrokerError
from botify.core.kafka.admin import TopicState, describe_topic, read_topic_id, retry_brokers
from botify.core.kafka.config import METADATA_AGE_S, common_config
from botify.core.logging import configure_logging
from botify.core.process import end_within, in_daemon_thread, return_large_blocks, tune_gc
from botify.core.settings import Settings
from botify.core.telemetry import Heartbeat, new_registry, observed
from botify.schemas.dead_letters import Letters
from botify.streams.store.connect import FOLDING_TIMEOUT_S, Writes, connect_async, probe_writes
from botify.streams.store.namespaces import NamespaceRecords, live_namespace
from botify.streams.store.protocol import Claim, Store
from botify.streams.store.redis_store import RedisStore
from botify.streams.worker.failpoints import with_failpoints
from botify.streams.worker.metrics import Counters, PartitionMetrics
from botify.streams.worker.partition import BROKER_AWAY_S, ClaimedPartition
from botify.streams.worker.partition_manager import PartitionManager
from botify.streams.worker.transport import (
    BatchApp,
    BatchConsumer,
    BatchSchema,
    NoTables,
    broker_credentials,
    broker_urls,
)

log = logging.getLogger(__name__)

TOPIC_CHECK_S = 5.0
NAMESPACE_CHECK_S = 0.5
HEARTBEAT_S = 1.0
PROBE_S = 2.0  # how often writes to Redis are probed, so that an idle process detects refusals too
FETCH_BYTES = 3 * 1024 * 1024
"""Most bytes of a partition in a fetch. A fetch returns what there is: a few records under light load, all of this on a
backlog. The longer a batch, the fewer states are written a listen."""

STOP_S = 6.0  # time to stop after a signal; then the process ends wherever it is. A container is killed after 8 seconds


@dataclass(frozen=True, slots=True)
class FoldingConfig:
    """What an app folds, and into which namespaces."""

    program: str  # its name in metrics
    topic: str
    group: str  # the consumer group that shares the partitions
    prefix: str  # of its namespaces
    batch_records: int
    checkpoint_s: float | None = None  # how often checkpoints are written; None if each batch does so
    state_in: Callable[[str], str] = str  # returns the namespace of the state


class FoldingApp(BatchApp, ABC):
    """An agent that submits batches to its partitions, and its connections.

    `second` is another app of the process: it starts after this one and stops before it, and is observed with it. With
    `starts_again` the process begins again when it has stopped, because the live namespace is of another topic.
    """

    settings: Settings
    folding: FoldingConfig
    counters: Counters
    partitions: PartitionManager
    consumer: BatchConsumer

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.second: FoldingApp | None = None
        self._observed = True
        self.registry = new_registry()
        self.heartbeat = Heartbeat()
        self._writes = Writes()
        self._claims, self._connections = AsyncExitStack(), AsyncExitStack()
        self.starts_again = False

    def open_sources(self) -> None:
        """Open the sources of partitions; blocking, called once."""

    @abstractmethod
    def refresh_sources(self) -> None:
        """Update the sources before a claim; blocking."""

    def close_sources(self) -> None:
        """Close the sources; blocking."""

    def letters(self) -> Letters:
        return {}

    @abstractmethod
    async def open_partition(self, partition: int, claim: Claim, start: int, store: Store) -> ClaimedPartition:
        """Return a claimed partition; see `OpenPartition`."""

    def event_times(self) -> Mapping[int, int]:
        """Return the event time of each partition in ms; empty if the program has none."""
        return {}

    async def on_start(self) -> None:
        """Open the sources and connect; partitions are claimed when the group assigns them."""
        await super().on_start()
        settings, folding = self.settings, self.folding
        await in_daemon_thread(self.open_sources)
        self._connections.push_async_callback(asyncio.to_thread, self.close_sources)
        self._redis = connect_async(settings, FOLDING_TIMEOUT_S)
        self._connections.push_async_callback(self._redis.aclose)
        self._namespace = await live_namespace(self._redis, folding.prefix)
        self.partitions = PartitionManager(
            store=self._store_of(self._namespace),
            open_partition=self.open_partition,
            describe_topic=lambda: in_daemon_thread(self._before_claim),
            seek=lambda partition, offset: self.consumer.seek_back(TP(folding.topic, partition), offset),
            reclaim_after_s=settings.session_timeout_s,
            rebuild_missing=settings.on_missing_state == "rebuild",
        )
        observing = (self.partitions.applied, self.counters, self._ends, self.event_times, self._writes)
        self.registry.register(PartitionMetrics(folding.program, *observing))
        self._claims.push_async_callback(self.partitions.release)
        if self._observed:
            self._claims.enter_context(
                observed(settings, self.registry, alive=self.heartbeat.probe, ready=self._missing_for_ready)
            )
        if self.second is not None:
            self.add_future(self.add_runtime_dependency(self.second))  # both join their groups at the same time

    async def on_stop(self) -> None:
        """Release the partitions; the connections are still open, for tasks that are in progress."""
        await self._claims.aclose()
        await super().on_stop()

    async def on_shutdown(self) -> None:
        await self._connections.aclose()
        await super().on_shutdown()
        log.info("stopped: %s dead_letters=%d", self.counters, sum(self.counters.rejected.values()))

    def run_with(self, second: FoldingApp) -> None:
        """Let a second app run in the process of this one."""
        self.second, second.registry, second._observed = second, self.registry, False

    async def another_store(self) -> Store | None:
        """Return the store of the live namespace, if another one has become live."""
        prefix = self.folding.prefix
        live = await live_namespace(self._redis, prefix)
        if live == self._namespace:
            return None
        record = await NamespaceRecords(self._redis, prefix).find(live)
        if record is not None and record.partitions is not None and record.layout != self.settings.layout:
            log.info("%s is the fold of another topic: starting again to fold that", live)
            self.starts_again = True
            os.kill(os.getpid(), SIGTERM)
            await asyncio.sleep(STOP_S)  # the signal stops this task
        self._namespace = live
        return self._store_of(live)

    async def probe_writes(self) -> None:
        self._writes.probed = await probe_writes(self._redis, self.folding.prefix, self.partitions.applied())

    def _store_of(self, namespace: str) -> Store:
        store = RedisStore(self._redis, self.folding.state_in(namespace), self._writes, letters=self.letters)
        return with_failpoints(store)

    def _missing_for_ready(self) -> str | None:
        claimed = hasattr(self, "partitions") and self.partitions.claimed  # a second one starts later than the probes
        if problem := self._writes.problem() or (None if claimed else "the assigned partitions are not claimed yet"):
            return problem
        return None if self.second is None else self.second._missing_for_ready()

    def _ends(self) -> dict[int, int]:
        return {tp.partition: end for tp, end in dict(self.monitor.tp_end_offsets).items()}

    def _before_claim(self) -> TopicState:
        retry_brokers(self.refresh_sources, BROKER_AWAY_S)
        return describe_topic(self.settings, self.folding.topic, self.folding.group)


A = TypeVar("A", bound=FoldingApp)


def make_app(kind: type[A], settings: Settings, folding: FoldingConfig) -> A:
    """Return the app, ready to be started."""
    app = kind(
        folding.group,
        broker=broker_urls(settings.kafka_bootstrap_servers),
        broker_credentials=broker_credentials(settings),
        datadir=settings.home / "faust",
        topic_disable_leader=True,
        topic_allow_declare=False,
        # with replicas Faust uses its own assignor, which leaves workers idle (4 partitions on 3: 2, 2, none)
        table_standby_replicas=0,
        TableManager=NoTables,
        web_enabled=False,
        agent_supervisor="mode.supervisors.CrashingSupervisor",
        broker_max_poll_records=folding.batch_records,
        broker_session_timeout=float(settings.session_timeout_s),
        broker_heartbeat_interval=settings.session_timeout_s / 5,
        broker_commit_interval=1.0,
        broker_check_crcs=False,
        consumer_auto_offset_reset="none",
        consumer_group_instance_id=settings.group_instance_id,
        consumer_max_fetch_size=FETCH_BYTES,
        consumer_metadata_max_age_ms=METADATA_AGE_S * 1000,
        stream_buffer_maxsize=1,  # batches wait in the tasks, which bound their bytes
        stream_wait_empty=False,
    )
    app.settings, app.folding = settings, folding

    @app.agent(app.topic(folding.topic, schema=BatchSchema()))
    async def fold(fetches: Any) -> AsyncIterator[None]:
        async for batches in fetches.noack():
            for batch in batches:
                for part in batch.parts(folding.batch_records):
                    await app.partitions.submit(part)
            yield

    @app.on_partitions_assigned.connect  # type: ignore[arg-type]  # of all signals, with any number of arguments
    async def release_all(_: Any, assigned: set[TP], **__: Any) -> None:
        if not assigned:  # then Faust does not seek, which is where partitions are claimed and released
            await app.partitions.claim(set())

    _add_tasks(app)
    return app


def _add_tasks(app: FoldingApp) -> None:
    @app.task  # type: ignore[untyped-decorator]
    async def stop_when_a_partition_fails() -> None:
        await app.partitions.failed

    @app.task  # type: ignore[untyped-decorator]
    async def stop_when_the_topic_changes() -> None:
        admin = AdminClient(common_config(app.settings))

        def read_id() -> str | None:
            with suppress(KafkaException, NoBrokerError):
                return read_topic_id(admin, app.folding.topic)
            return None

        await app.partitions.watch_topic(lambda: in_daemon_thread(read_id), TOPIC_CHECK_S)

    @app.task  # type: ignore[untyped-decorator]
    async def follow_the_live_namespace() -> None:
        await app.partitions.follow_namespace(app.another_store, NAMESPACE_CHECK_S)

    @app.task  # type: ignore[untyped-decorator]
    async def write_checkpoint() -> None:
        if app.folding.checkpoint_s is not None:
            await app.partitions.checkpoint_regularly(app.folding.checkpoint_s)

    @app.task  # type: ignore[untyped-decorator]
    async def watch_writes() -> None:
        while True:
            await asyncio.sleep(PROBE_S)
            await app.probe_writes()

    @app.task  # type: ignore[untyped-decorator]
    async def beat() -> None:
        while True:
            app.heartbeat.beat()
            await asyncio.sleep(HEARTBEAT_S)


class BoundedWorker(faust.Worker):
    """Runs an app until a signal, and not much longer: whatever is not in the store by then is folded again."""

    def _schedule_shutdown(self, signal: Signals) -> None:
        if not self._signal_stop_time:  # a second signal gives no more time
            end_within(STOP_S)
        super()._schedule_shutdown(signal)


def run(build_app: Callable[[Settings], FoldingApp]) -> None:
    """Run the app; the exit status is not 0 if it failed."""
    settings = Settings.from_env()
    configure_logging(settings, quiet=("faust", "mode", "aiokafka"))
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    app = build_app(settings)
    if settings.metrics_port is not None:
        # Faust's own sensor: its "messages" are fetches, its durations are in milliseconds
        setup_prometheus_sensors(app, registry=app.registry, name_prefix="faust")
    tune_gc()
    return_large_blocks()
    worker = BoundedWorker(app, loop=loop, loglevel=None, override_logging=False, redirect_stdouts=False, quiet=True)
    worker.spinner = None  # it draws on standard output even if that is no terminal
    try:
        worker.execute_from_commandline()
    except SystemExit:
        reason = app.crash_reason  # logged again, after the tracebacks
        where = "".join(f" ({note})" for note in getattr(reason, "__notes__", ()))
        if isinstance(reason, RedisError):
            log.critical("Redis at %s fails: %s", settings.redis_address, reason)
        elif reason is not None:
            log.critical("%s%s", reason if isinstance(reason, BotifyError) else repr(reason), where)
        starts_again = app.starts_again or (app.second is not None and app.second.starts_again)
        if starts_again and reason is None:
            os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - this program, which its supervisor keeps watching
        raise
