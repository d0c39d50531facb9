"""A Faust transport whose messages are whole fetches, and whose offsets come from the store.

Faust makes four asyncio tasks a message, about 100 µs. Here a message is all that a fetch returned, a batch of records
of each partition. Redis owns the offsets: instead of seeking to the group's committed offsets, the consumer claims its
partitions in the store and seeks to their checkpoints. A worker that folds in columns also fetches columns
(`botify.core.kafka.column_fetch`).

`tests/unit/streams/worker/test_faust_contract.py` checks every override against Faust 0.15.3 and aiokafka 0.14.0.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import faust
from aiokafka.errors import IllegalStateError, NoOffsetForPartitionError
from faust.auth import SASLCredentials, SSLCredentials
from faust.tables.manager import TableManager
from faust.transport.drivers import aiokafka as driver
from faust.transport.utils import DefaultSchedulingStrategy
from faust.types import TP, ConsumerMessage

from botify.core.errors import BotifyError
from botify.core.kafka.column_fetch import FetchedRecords, as_batch, reading_safely
from botify.core.kafka.config import LONG_POLL_MS
from botify.core.kafka.security import MECHANISM, PASSWORD, PROTOCOL, USERNAME, ssl_context
from botify.core.settings import Settings
from botify.core.throttle import gather_ms
from botify.streams.worker.partition_manager import Batch, PartitionManager


class BatchApp(faust.App):
    """A Faust app whose transport asks `partitions` for offsets."""

    partitions: PartitionManager


class NoTables(TableManager):
    """Faust's manager of tables, for an app that has none: it subscribes without a second's wait for more of them."""

    async def on_start(self) -> None:
        if not self.should_stop:
            await self._update_channels()
            await self.recovery.start()


class BatchScheduler(DefaultSchedulingStrategy):
    """Yields the records of all partitions together instead of one by one."""

    def __init__(self) -> None:
        """Create a scheduler; Faust's own keeps state that is not needed."""

    def iterate(self, records: Mapping[TP, Any]) -> Iterator[tuple[TP, Any]]:
        for first in records:
            yield first, records
            return


class BatchSchema(faust.Schema[Any, Any]):
    """Leaves decoding to the partitions, which decode and validate a batch as a whole."""

    def loads_key(self, app: Any, message: Any, **_: Any) -> None:
        """Return None: the records have their own keys."""

    def loads_value(self, app: Any, message: Any, **_: Any) -> Sequence[Batch]:
        batches: Sequence[Batch] = message.value
        return batches


class NoReadOffsets(dict[TP, int | None]):
    """Faust's table of fetched offsets, always empty: Faust drops batches before the last one that it fetched.

    After a seek backwards, a batch that was in flight would make it drop all later batches up to that offset. Tasks
    drop batches by their own offsets instead.
    """

    def __missing__(self, key: TP) -> None:
        """Return None: nothing was read yet."""

    def __setitem__(self, key: TP, offset: int | None) -> None:
        """Ignore it."""

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Ignore them."""


CLAIM_S = 80.0
"""How long a claim may take. After its `broker_request_timeout`, 90 s, Faust would end without an error what waits for
claims, and the process would never fold again."""
GATHER_SHARE = 0.01
"""The share of a core that calls for 1 ms of gathering: a twentieth of one calls for 25 ms, a tenth of one for 100.

No answer waits for the worker, as the recommender adds what is pending, and a batch costs as much as 50 listens.
"""
SPARE_SHARE = 0.04  # a smaller share calls for none: there is time to spare
NEWEST = 0.2  # weight of the last fetch in the mean share
MOST_GATHER_MS = 100
"""A backlog is not waited for: the fetch is sent while the last one is folded, and finds `ENOUGH_BYTES`."""
ENOUGH_BYTES = 1024 * 1024  # a fetch that finds this number of bytes is answered at once


class ClaimTimeoutError(BotifyError):
    """A claim took too long; the process ends, and the next one begins with it."""


def _answer_first_record(fetcher: Any) -> None:
    fetcher._fetch_min_bytes, fetcher._fetch_max_wait_ms = 1, LONG_POLL_MS


class ClaimingThread(driver.AIOKafkaConsumerThread):
    """The consumer's thread, which accepts that the group has committed nothing, and lets brokers gather records.

    aiokafka needs a committed offset as soon as a partition is assigned, and the claim may take longer. A reset to the
    earliest offset instead would hide the loss of records that were not folded.
    """

    _taken_s = 0.0
    _cpu_s = 0.0
    _share = 0.0

    def _create_worker_consumer(self, transport: Any) -> Any:
        return reading_safely(super()._create_worker_consumer(transport))

    def highwater(self, tp: TP) -> int:
        """Return the end of what is committed: what is after it cannot be read yet."""
        end: int = self._ensure_consumer().last_stable_offset(tp)
        return end

    async def getmany(self, active_partitions: set[TP] | None, timeout: float) -> Mapping[TP, Any]:
        """Fetch; a partition that waits for its claim has no records yet."""
        try:
            records: Mapping[TP, Any] = await super().getmany(active_partitions, timeout)
        except NoOffsetForPartitionError:
            return {}
        return records

    async def _fetch_records(
        self, consumer: Any, active_partitions: set[TP], timeout: float | None = None, max_records: int | None = None
    ) -> Mapping[TP, Any]:
        """Take what was fetched; the next fetch, which is sent after this, gathers by what the last ones cost."""
        records: Mapping[TP, Any] = await super()._fetch_records(consumer, active_partitions, timeout, max_records)
        if not records:
            return records
        loop = asyncio.get_running_loop()
        before_s, self._taken_s = self._taken_s, loop.time()
        cpu_before_s, self._cpu_s = self._cpu_s, time.process_time()
        elapsed_s = max(self._taken_s - before_s, 0.001)
        self._share += NEWEST * ((self._cpu_s - cpu_before_s) / elapsed_s - self._share)
        if self._share > SPARE_SHARE:
            wait_ms = int(gather_ms(self._share, 1.0, GATHER_SHARE, MOST_GATHER_MS))
            fetcher = consumer._fetcher
            fetcher._fetch_min_bytes, fetcher._fetch_max_wait_ms = ENOUGH_BYTES, wait_ms
            loop.call_later(wait_ms / 1000, _answer_first_record, fetcher)
        return records

    def _stopped_set(self) -> None:
        """Stop the thread; after a crash of the app it may have ended, with its loop closed."""
        try:
            super()._stopped_set()
        except RuntimeError:
            self._stopped.set()


class BatchConsumer(driver.Consumer):
    """A consumer whose messages are batches and whose offsets come from the store."""

    app: BatchApp

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.scheduler = BatchScheduler()
        self._read_offset = NoReadOffsets()
        # rebalances are counted at their beginning, when the group revokes all partitions
        self._assigned_in: int | None = None
        self._claimed_in: int | None = None
        self._seeking = asyncio.Lock()

    def _new_consumer_thread(self) -> ClaimingThread:
        return ClaimingThread(self, loop=self.loop, beacon=self.beacon)

    def _to_message(self, tp: TP, record: Mapping[TP, FetchedRecords]) -> ConsumerMessage:
        batches = [Batch(of_one.partition, as_batch(some), some.position) for of_one, some in record.items()]
        for other in [of_one for of_one in record if of_one != tp]:  # Faust has done so for this one
            self.app.monitor.track_tp_end_offset(other, self.highwater(other))
        first = batches[0].records[0]
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            first.offset,
            first.timestamp / 1000.0,
            0,  # its type, which nothing reads
            [],
            None,
            batches,  # type: ignore[arg-type]  # passed through to BatchSchema
            None,
            tp=tp,
            generation_id=self.app.consumer_generation_id,
        )

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        self._assigned_in = self.app.rebalancing_count
        await super().on_partitions_assigned(assigned, generation_id)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Claim the assigned partitions once, and seek to their checkpoints; raises `ClaimTimeoutError`.

        Faust calls this for each assignment, and again if a fetch of before the rebalance ends after it: then the
        consumer only goes back, as a second claim would end the tasks that have just begun. It may also call it after
        the next rebalance has begun: a claim would then fence the next owner.
        """
        try:
            async with asyncio.timeout(CLAIM_S), self._seeking:
                return await self._claim_and_seek()
        except TimeoutError as late:
            raise ClaimTimeoutError(
                f"claiming {sorted(self.assignment())} took more than {CLAIM_S:.0f} s; look at Redis and Kafka"
            ) from late

    async def _claim_and_seek(self) -> Mapping[TP, int]:
        rebalance = self.app.rebalancing_count
        if self._assigned_in != rebalance:
            return {}
        assigned = {tp.partition: tp for tp in self.assignment()}
        if self._claimed_in == rebalance:
            reached = self.app.partitions.applied()
        else:
            reached = await self.app.partitions.claim(set(assigned))
        offsets = {assigned[partition]: offset for partition, offset in reached.items() if partition in assigned}
        await self.seek_wait(offsets)
        self._claimed_in = rebalance
        return offsets

    async def seek_back(self, tp: TP, offset: int) -> None:
        """Fetch from an offset again, unless the partition was just revoked."""
        with suppress(IllegalStateError):
            await self.seek_wait({tp: offset})

    def on_buffer_full(self, tp: TP) -> None:
        """Continue fetching; a full queue delays the next message, and that is enough.

        Faust would leave the partition out until the queue is empty, and sleep where all partitions are left out.
        """

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        yield from self.assignment()

    def _new_offset(self, tp: TP) -> int | None:
        """Return the offset to commit; None from the beginning of a rebalance until all partitions are claimed."""
        if self._claimed_in != self.app.rebalancing_count:
            return None
        return self.app.partitions.applied().get(tp.partition)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Do nothing: batches start many offsets apart, and acknowledgements are not counted."""


class BatchTransport(driver.Transport):
    """Transport for broker URLs `botify://host:port`, found through the entry point `faust.transports`."""

    Consumer = BatchConsumer


def broker_urls(bootstrap_servers: str) -> list[str]:
    """Return the URLs that make Faust use this transport: `botify://a:9092`."""
    return [f"botify://{server.strip()}" for server in bootstrap_servers.split(",")]


def broker_credentials(settings: Settings) -> SASLCredentials | SSLCredentials | None:
    """Return Faust's form of `settings.kafka_security`, None for plain text; raises `SettingsError`."""
    security = settings.kafka_security
    context = ssl_context(security)
    if security.get(PROTOCOL, "").startswith("SASL_"):
        return SASLCredentials(
            username=security[USERNAME], password=security[PASSWORD], mechanism=security[MECHANISM], ssl_context=context
        )
    return None if context is None else SSLCredentials(context)
