"""The newest records of a topic, and those that come after them."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from typing import NamedTuple

from confluent_kafka import Consumer, Message, TopicPartition

from core.errors import TopicError
from core.kafka.admin import end_offsets, start_offsets
from core.kafka.config import consumer_config, is_retriable, key_of, partition_of
from core.kafka.reachable import check_kafka
from core.settings import Settings
from schemas.codec import Codec
from schemas.events import Listen
from schemas.topics import Topics
from schemas.validation import iter_valid
from services.dashboard.figures import SCANNED, ListenerReading, ListenSample, Sample
from streams.read import StateReader
from streams.store.connect import check_redis, connect


class Tail:
    """Follows partitions without a group and commits nothing: whoever starts anew begins with the newest records.

    Parameters
    ----------
    settings : Settings
    topic : str
    newest : int
        How many records that are there already are read, of each partition.
    partitions : collection of int, optional
        All of them by default.

    Raises
    ------
    TopicError
        The topic is missing, or no broker answers.
    """

    def __init__(self, settings: Settings, topic: str, newest: int, partitions: Collection[int] | None = None) -> None:
        self._topic = topic
        starts, ends = start_offsets(settings, topic), end_offsets(settings, topic)
        self.partitions = sorted(ends if partitions is None else partitions)
        begin = {partition: max(starts[partition], ends[partition] - newest) for partition in self.partitions}
        self._left = {partition: ends[partition] for partition in self.partitions if begin[partition] < ends[partition]}
        self._consumer = Consumer(
            consumer_config(
                settings,
                group="botify-dashboard",
                # few big fetches: what is shown once a second need not be fetched a thousand times a second
                fetch_min_bytes=1 << 20,
                fetch_wait_max_ms=500,
                queued_max_messages_kbytes=16_384,
            )
        )
        self._consumer.assign([TopicPartition(topic, partition, begin[partition]) for partition in self.partitions])

    def take(self, most: int, timeout_s: float = 0.0) -> list[Message]:
        """Return what has come, at most so many records.

        Raises
        ------
        TopicError
            The broker says that the topic cannot be read.
        """
        taken = []
        for message in self._consumer.consume(most, timeout_s):
            if (error := message.error()) is None:
                taken.append(message)
                if message.offset() + 1 >= self._left.get(message.partition(), 1 << 62):
                    del self._left[message.partition()]
            elif not is_retriable(error):
                raise TopicError(f"{self._topic} cannot be read: {error.str()}")
        return taken

    def take_all(self, timeout_s: float) -> list[Message]:
        """Return the records that were there when this was made; fewer where the broker takes longer than that."""
        give_up = time.monotonic() + timeout_s
        taken = []
        while self._left and time.monotonic() < give_up:
            taken += self.take(5_000, timeout_s=0.05)
        return taken

    def close(self) -> None:
        """Stop following."""
        self._consumer.close()


SHARE = 4
"""One partition of so many is read. Users have one partition each, and treatments are drawn from another hash of the
user, so this is a random sample of listeners; a listen costs some 8 µs, and all would cost a tenth of a core."""

NEWEST = 50_000
"""Listens of each sampled partition that count although they were made before the dashboard started."""

MOST_AT_ONCE = 10_000


class SampledListens(NamedTuple):
    """The figures, and which listeners they are of."""

    figures: ListenSample
    sample: Sample


class ListenReader:
    """Feeds a `ListenSample`; one that is made anew begins with the `NEWEST` listens."""

    def __init__(self, settings: Settings, codec: Codec) -> None:
        self._codec = codec
        count = -(-settings.partitions // SHARE)
        self._tail = Tail(settings, Topics.of(settings).listens.name, NEWEST, range(count))
        self._sampled = SampledListens(ListenSample(), Sample(count, settings.partitions))

    def read(self) -> SampledListens:
        """Take in what has come and return the figures."""
        read = iter_valid(self._tail.take(MOST_AT_ONCE), Listen, self._codec)
        self._sampled.figures.update(listen for _, listen in read)
        return self._sampled

    def close(self) -> None:
        """Stop following."""
        self._tail.close()


TIMEOUT_S = 3.0


class ListenerReader:
    """Reads listeners, one at a time however many ask: it costs as much as a second of the collector."""

    def __init__(self, settings: Settings, codec: Codec) -> None:
        self._settings = settings
        self._codec = codec
        self._state: StateReader | None = None
        self._one_at_a_time = threading.Lock()

    def read(self, user: int) -> ListenerReading:
        """Return what is known; blocks. Raises what Kafka's and Redis's clients raise."""
        with self._one_at_a_time:
            check_kafka(self._settings)
            check_redis(self._settings)
            if self._state is None:
                self._state = StateReader(connect(self._settings), self._settings)
            (state,) = self._state.users([user])
            partition = partition_of(user, self._settings.partitions)
            return ListenerReading(user, state, partition, () if state is None else self._listens(user, partition))

    def _listens(self, user: int, partition: int) -> tuple[Listen, ...]:
        tail = Tail(self._settings, Topics.of(self._settings).listens.name, SCANNED, [partition])
        key, listens = key_of(user), dict[str, Listen]()
        try:
            own = [message for message in tail.take_all(TIMEOUT_S) if message.key() == key]
            for _, listen in iter_valid(own, Listen, self._codec):
                listens.setdefault(listen.event_id, listen)  # of copies the first, as the worker has it
        finally:
            tail.close()
        return tuple(listens.values())
