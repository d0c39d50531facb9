"""Faust, one batch at a time.

Faust makes four asyncio tasks a message, which is about 100 µs. Here a message is a whole run of records of one
partition, so that cost is shared by thousands of events. And Redis owns the offsets: where Faust would seek to what
the group has committed, the partitions are claimed in the store, which says where to go on.

Everything overridden is public in Faust 0.15.3, and held by `tests/unit/streams/worker/test_faust_contract.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

import faust
from aiokafka.errors import IllegalStateError, NoOffsetForPartitionError
from faust.auth import SASLCredentials, SSLCredentials
from faust.transport.drivers import aiokafka as driver
from faust.transport.utils import DefaultSchedulingStrategy
from faust.types import TP, ConsumerMessage

from core.kafka.security import MECHANISM, PASSWORD, PROTOCOL, USERNAME, ssl_context
from core.settings import Settings


class Run(NamedTuple):
    """Records of one partition, in order, as one fetch returned them.

    Attributes
    ----------
    partition : int
    records : sequence of aiokafka.ConsumerRecord
    """

    partition: int
    records: Sequence[Any]

    @property
    def size_bytes(self) -> int:
        """Of the records' values, as they lie in Kafka."""
        return sum(len(record.value or b"") for record in self.records)


class Partitions(Protocol):
    """Who owns the state of the assigned partitions."""

    async def claim(self, partitions: set[int]) -> Mapping[int, int]:
        """Claim the partitions and return where each goes on."""

    def applied(self) -> Mapping[int, int]:
        """Return the checkpoint of each partition, for lag displays."""


class BatchApp(faust.App):
    """A Faust app whose transport asks `partitions` for offsets."""

    partitions: Partitions


class RunScheduler(DefaultSchedulingStrategy):
    """Hands out a partition's records together instead of one by one."""

    def __init__(self) -> None:
        """Need nothing."""

    def iterate(self, records: Mapping[TP, Any]) -> Iterator[tuple[TP, Any]]:
        """Yield each partition with its list of records."""
        yield from records.items()


class RunSchema(faust.Schema[Any, Any]):
    """Leaves decoding to the agent: a run is decoded, and its bad records set aside, as a whole."""

    def loads_key(self, app: Any, message: Any, **_: Any) -> None:
        """Return None: the records have their own keys."""

    def loads_value(self, app: Any, message: Any, **_: Any) -> Run:
        """Return the run as it is."""
        run: Run = message.value
        return run


class NoReadOffsets(dict[TP, int | None]):
    """Faust's memory of what was fetched, which forgets: Faust drops whatever comes before the last run it met.

    After a seek backwards a run that was still on its way would make it drop all that follow, until the first that
    lies beyond; the task sorts that out by offset, and better.
    """

    def __missing__(self, key: TP) -> None:
        """Return None: nothing was read yet."""

    def __setitem__(self, key: TP, offset: int | None) -> None:
        """Forget it."""

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Forget them."""


class ClaimingThread(driver.AIOKafkaConsumerThread):
    """The consumer's thread, which does not mind that the group has committed nothing.

    aiokafka looks for a committed offset as soon as a partition is assigned, and the claim may take longer than that.
    Resetting to the earliest instead would hide that records which were not folded yet are gone.
    """

    async def getmany(self, active_partitions: set[TP] | None, timeout: float) -> Mapping[TP, Any]:
        """Fetch; a partition that still waits for its claim has nothing yet."""
        try:
            records: Mapping[TP, Any] = await super().getmany(active_partitions, timeout)
        except NoOffsetForPartitionError:
            return {}
        return records

    def _stopped_set(self) -> None:
        """Have the thread stop; where the app has crashed it may have ended by itself, and its loop is closed."""
        try:
            super()._stopped_set()
        except RuntimeError:
            self._stopped.set()


class BatchConsumer(driver.Consumer):
    """A consumer whose messages are runs and whose offsets come from the store."""

    app: BatchApp

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.scheduler = RunScheduler()
        self._read_offset = NoReadOffsets()
        # rebalances are counted from their beginning, when the group takes everything away
        self._assigned_in: int | None = None
        self._claimed_in: int | None = None

    def _new_consumer_thread(self) -> ClaimingThread:
        return ClaimingThread(self, loop=self.loop, beacon=self.beacon)

    def _to_message(self, tp: TP, record: Sequence[Any]) -> ConsumerMessage:
        first = record[0]
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            first.offset,
            first.timestamp / 1000.0,
            first.timestamp_type,
            [],
            None,
            Run(tp.partition, record),  # type: ignore[arg-type]  # passed through to RunSchema
            None,
            tp=tp,
            generation_id=self.app.consumer_generation_id,
        )

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Note that the group has decided, and let Faust go on."""
        self._assigned_in = self.app.rebalancing_count
        await super().on_partitions_assigned(assigned, generation_id)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Claim what is assigned, and seek to where the store says.

        Faust may come here once more when the next rebalance has begun. Who has the partitions is open then: a claim
        would fence whoever is given them.
        """
        rebalance = self.app.rebalancing_count
        if self._assigned_in != rebalance:
            return {}
        assigned = {tp.partition: tp for tp in self.assignment()}
        claimed = await self.app.partitions.claim(set(assigned))
        offsets = {assigned[partition]: offset for partition, offset in claimed.items()}
        await self.seek_wait(offsets)
        self._claimed_in = rebalance
        return offsets

    async def seek_back(self, tp: TP, offset: int) -> None:
        """Fetch from an offset again; where the group has just given the partition to another, there is nothing to."""
        with suppress(IllegalStateError):
            await self.seek_wait({tp: offset})

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        yield from self.assignment()

    def _new_offset(self, tp: TP) -> int | None:
        """Return the offset to be committed; none from the beginning of a rebalance until all is claimed anew.

        What is committed while the group waits for its members waits behind our own joining, then comes in the name of
        a generation that is over. For that aiokafka joins again, so that the group would rebalance for ever.
        """
        if self._claimed_in != self.app.rebalancing_count:
            return None
        return self.app.partitions.applied().get(tp.partition)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Do nothing: a run starts many offsets after the last one did, and acknowledgements are not counted."""


class BatchTransport(driver.Transport):
    """Transport for broker URLs `botify://host:port`, found through the entry point `faust.transports`."""

    Consumer = BatchConsumer


def broker_urls(bootstrap_servers: str) -> list[str]:
    """Return the URLs that make Faust use this transport.

    Examples
    --------
    >>> broker_urls("a:9092,b:9092")
    ['botify://a:9092', 'botify://b:9092']
    """
    servers: Iterable[str] = bootstrap_servers.split(",")
    return [f"botify://{server.strip()}" for server in servers]


def broker_credentials(settings: Settings) -> SASLCredentials | SSLCredentials | None:
    """Return Faust's form of `settings.kafka_security`; None for plain text.

    Raises
    ------
    SettingsError
        A certificate or key cannot be used.
    """
    security = settings.kafka_security
    context = ssl_context(security)
    if security.get(PROTOCOL, "").startswith("SASL_"):
        return SASLCredentials(
            username=security[USERNAME], password=security[PASSWORD], mechanism=security[MECHANISM], ssl_context=context
        )
    return None if context is None else SSLCredentials(context)
