"""The only place where partitions are polled without a consumer group. Nothing is committed.

`AssignedConsumer` polls: it drops retriable errors, raises others, and knows its position. `TopicReader` reads with it
up to an end and stops, and `TopicFollower` reads a small topic in the background.
"""

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

from confluent_kafka import OFFSET_END, Consumer, KafkaError, Message, TopicPartition

from botify.core.errors import TopicError
from botify.core.kafka.admin import end_offsets
from botify.core.kafka.config import consumer_config, is_retriable
from botify.core.kafka.headers import headers_of
from botify.core.settings import Settings
from botify.core.throttle import lower_priority

log = logging.getLogger(__name__)

BATCH = 10_000
WAIT_S = 0.2
GATHER_S = 0.005  # how long to wait for more records after the first; a short topic is at its end by then
TO_END_MS = 10  # how long a broker waits before it says that a partition has no more records
FOLLOW_MS = 1_000
"""The same for a reader that stays open: it asks once a second, not a hundred times. Brokers send new records at once
in either case; only where the last offsets have no records is the end found later."""
IDLE_TIMEOUT_S = 30.0  # how long a reader waits for a record that exists


class AssignedConsumer:
    """Polls partitions from given offsets, without commits; `group` is for the broker's logs and access rules."""

    def __init__(self, settings: Settings, topic: str, start: Mapping[int, int], group: str, **config: Any) -> None:
        self._topic = topic
        self._consumer = Consumer(consumer_config(settings, group=group, **config))
        self._failure: TopicError | None = None
        self.assign(start)
        self._unfetched = self._partitions()

    def assign(self, start: Mapping[int, int]) -> None:
        """Read from these offsets; records that were fetched and not polled are dropped."""
        self.position = dict(start)
        """The offset after the last record polled, or the end of the partition, by partition; -1 before the first."""
        self._consumer.assign(self._partitions())

    def add(self, partition: int) -> None:
        """Read a further partition from its end on; when `connected`, the end is known, and all after it is read."""
        at = TopicPartition(self._topic, partition, OFFSET_END)
        self._consumer.incremental_assign([at])
        self._unfetched.append(at)
        self.position[partition] = OFFSET_END

    def drop(self, partition: int) -> None:
        """Stop reading a partition."""
        self._consumer.incremental_unassign([TopicPartition(self._topic, partition)])
        self.position.pop(partition, None)

    def poll(self, most: int, wait_s: float, gather_s: float | None = None) -> list[Message]:
        """Return at most `most` records: wait `wait_s` for all, or for the first, and then `gather_s` for others.

        Raises `TopicError` if the topic cannot be read, and not for a retriable error; what came with it is returned
        first.
        """
        if self._failure is not None:
            self._raise_failure()
        messages: list[Message]
        if gather_s is None:
            messages = self._consumer.consume(most, wait_s)
        else:  # `consume` alone would wait for all of `most` until its time is over
            first = self._consumer.poll(wait_s)
            messages = [] if first is None else [first]
            if messages and most > 1:
                messages += self._consumer.consume(most - 1, gather_s)
        if not messages:
            return messages
        records = [message for message in messages if message.error() is None]
        # partitions are in order: of a single one the last record is enough
        for record in records if len(self.position) > 1 else records[-1:]:
            self.position[record.partition()] = record.offset() + 1
        if len(records) < len(messages):
            for message in messages:
                if (error := message.error()) is not None:
                    self._take_error(message.partition(), message.offset(), error)
            if not records:
                self._raise_failure()
        return records

    def poll_until(
        self, end: Mapping[int, int], most: int, wait_s: float, gather_s: float | None = None
    ) -> Iterator[list[Message]]:
        """Yield what each `poll` returns, also if it is empty, until all records before an end have arrived.

        The last records may lie after the end. If records are missing before it (compaction, transaction markers), this
        needs `enable_partition_eof`. Raises `TopicError` as `poll`, or if no record arrives for `IDLE_TIMEOUT_S`.
        """
        give_up = time.monotonic() + IDLE_TIMEOUT_S
        missing = self._missing(end)
        while missing:
            before = missing
            # if enough records exist to fill the call, wait for them
            records = self.poll(min(most, missing), wait_s, gather_s if missing < most else wait_s)
            missing = self._missing(end)
            yield records
            if missing < before:
                give_up = time.monotonic() + IDLE_TIMEOUT_S
            elif time.monotonic() > give_up:
                late = min(partition for partition, offset in end.items() if self.position[partition] < offset)
                raise TopicError(
                    f"{self._topic}[{late}]: no record for {IDLE_TIMEOUT_S:.0f} s at offset {self.position[late]}, "
                    f"before the end at {end[late]}"
                )

    @property
    def connected(self) -> bool:
        """Whether every partition was fetched from, so that no new record waits for a connection."""
        watermarks = self._consumer.get_watermark_offsets
        self._unfetched = [at for at in self._unfetched if watermarks(at, cached=True)[1] < 0]
        return not self._unfetched

    @property
    def is_behind(self) -> bool:
        """Whether a partition had records after the last one polled when it was last fetched from."""
        return any(
            self._consumer.get_watermark_offsets(at, cached=True)[1] > self.position[at.partition]
            for at in self._partitions()
        )

    @property
    def group_metadata(self) -> Any:
        """The group, for a transaction that commits the position in it."""
        return self._consumer.consumer_group_metadata()

    def close(self) -> None:
        """Close the consumer."""
        self._consumer.close()

    def _partitions(self) -> list[TopicPartition]:
        return [TopicPartition(self._topic, partition, offset) for partition, offset in self.position.items()]

    def _missing(self, end: Mapping[int, int]) -> int:
        return sum(max(0, offset - self.position[partition]) for partition, offset in end.items())

    def _take_error(self, partition: int, offset: int, error: KafkaError) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            # between the last record and the end there is no data (compaction, transaction markers)
            self.position[partition] = max(self.position[partition], offset)
        elif not is_retriable(error) and self._failure is None:
            at = self.position.get(partition)
            name = self._topic if at is None else f"{self._topic}[{partition}]"
            where = "" if at is None else f" at offset {at}"
            self._failure = TopicError(f"{name} cannot be read{where}: {error.str()}")

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure


class TopicReader:
    """Reads up to an end and stops, and continues as the topic grows: for catalogues, tables, verification.

    `start` has the first offsets; other partitions start at the beginning. Batches have at most `batch` records; one
    that is not full waits `gather_s` for more. `wait_ms` is `FOLLOW_MS` for a reader that stays open between its
    readings.
    """

    def __init__(
        self,
        settings: Settings,
        topic: str,
        start: Mapping[int, int] | None = None,
        partitions: Collection[int] | None = None,
        batch: int = BATCH,
        gather_s: float = GATHER_S,
        group: str = "botify-reader",
        wait_ms: int = TO_END_MS,
        **config: Any,
    ) -> None:
        self._settings, self._topic, self._only = settings, topic, partitions
        self._batch, self._gather_s = batch, gather_s
        begin = start or {}
        chosen = end_offsets(settings, topic) if partitions is None else partitions
        # not OFFSET_BEGINNING, which librdkafka takes half a second to look up; `auto.offset.reset` skips records that
        # retention has removed
        self.next_offsets = {partition: begin.get(partition, 0) for partition in chosen}
        self._ahead: list[Message] = []  # polled, but after the requested end
        self._overshot = False  # too many of them to keep: they are fetched again
        # made last: once connected, it looks for new leaders only a second later
        self._consumer = AssignedConsumer(
            settings, topic, self.next_offsets, group, enable_partition_eof=True, fetch_wait_max_ms=wait_ms, **config
        )

    def read_to_end(self, end: Mapping[int, int] | None = None) -> Iterator[list[Message]]:
        """Yield batches up to the end (exclusive, by default the current one); raises `TopicError` if it is missing."""
        stop = end if end is not None else end_offsets(self._settings, self._topic)
        if end is None and self._only is not None:
            stop = {partition: offset for partition, offset in stop.items() if partition in self._only}
        if end is None and (new := stop.keys() - self.next_offsets.keys()):  # the topic has more partitions now
            self.next_offsets |= dict.fromkeys(new, 0)
            self._overshot = True  # all are assigned again
        kept = self._take_ahead()
        for records in chain([kept], self._consumer.poll_until(stop, self._batch, WAIT_S, self._gather_s)):
            if within := self._take_up_to(stop, records):
                yield within

    def read_arrived(self) -> Iterator[list[Message]]:
        """Yield batches of the records that have arrived; neither waits nor asks for the end, which takes 50 ms."""
        records = self._take_ahead() or self._consumer.poll(self._batch, 0.0)
        while records:
            yield self._take_up_to(self._consumer.position, records)
            records = self._consumer.poll(self._batch, 0.0)

    def close(self) -> None:
        """Close the consumer."""
        self._consumer.close()

    def _take_ahead(self) -> list[Message]:
        """Return the records that were polled before they were asked for; if there were too many, fetch them again."""
        if self._overshot:
            self._consumer.assign(self.next_offsets)
            self._ahead, self._overshot = [], False
        kept, self._ahead = self._ahead, []
        return kept

    def _take_up_to(self, end: Mapping[int, int], records: list[Message]) -> list[Message]:
        position = self._consumer.position
        within = records
        if any(offset > end.get(partition, 0) for partition, offset in position.items()):
            within = [record for record in records if record.offset() < end.get(record.partition(), 0)]
            if len(within) < len(records):
                self._ahead += [record for record in records if record.offset() >= end.get(record.partition(), 0)]
            if len(self._ahead) > self._batch:
                self._ahead, self._overshot = [], True
        for partition, offset in end.items():
            self.next_offsets[partition] = max(self.next_offsets[partition], min(position[partition], offset))
        return within


class LogRecord(NamedTuple):
    """A record with the attributes of `aiokafka.ConsumerRecord`."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


def log_record(message: Message) -> LogRecord:
    """Return a record of confluent-kafka with aiokafka's attributes."""
    place = message.topic(), message.partition(), message.offset()
    return LogRecord(*place, message.timestamp()[1], message.key(), message.value(), headers_of(message))


POLL_S = 0.5


class TopicFollower(ABC):
    """Follows a topic of one partition in a thread of its own, so that serving never waits for it.

    Nothing is committed: every follower reads everything. While the topic cannot be read, what was read stays in use,
    as `otherwise` says in the log. `name` is that of the thread and, after `botify-`, of the reader in the access
    rules.
    """

    def __init__(self, settings: Settings, topic: str, name: str, otherwise: str, batch: int) -> None:
        self._settings, self._topic = settings, topic
        self._otherwise, self._batch = otherwise, batch
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._consumer = AssignedConsumer(
            settings, topic, {0: 0}, group=f"botify-{name}", enable_partition_eof=True, fetch_wait_max_ms=FOLLOW_MS
        )

    def start(self) -> None:
        """Read to the topic's end, then continue in the background; raises `TopicError`."""
        self.refresh()
        self._thread.start()

    def refresh(self) -> None:
        """Read to the topic's end; after `start` a thread does so. Raises as `start`."""
        for messages in self._to_end():
            self._take(messages)

    def close(self) -> None:
        """Stop the thread and close the consumer."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._consumer.close()

    @abstractmethod
    def _take(self, messages: Sequence[Message]) -> None:
        """Use records that have arrived; a tombstone has no value."""

    def _to_end(self) -> Iterator[Sequence[Message]]:
        """Yield the records up to the topic's end as it is now."""
        end = {0: end_offsets(self._settings, self._topic)[0]}
        return self._consumer.poll_until(end, self._batch, POLL_S)

    def _run(self) -> None:
        lower_priority()
        while not self._stopping.is_set():
            try:
                self._take(self._consumer.poll(self._batch, POLL_S, gather_s=0.0))
            except TopicError as error:
                log.error("%s; %s", error, self._otherwise)  # noqa: TRY400 - the message says it all
                self._stopping.wait(POLL_S)
            except Exception:  # the thread must not end unnoticed
                log.exception("%s cannot be read at the moment; %s", self._topic, self._otherwise)
                self._stopping.wait(POLL_S)
