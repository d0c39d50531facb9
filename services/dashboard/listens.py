"""Listens of the topic: those of all sampled listeners as they arrive, and those of one listener."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from contextlib import closing
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from confluent_kafka import Message
from confluent_kafka.admin import AdminClient

from botify.core.kafka.admin import check_kafka, end_offsets, start_offsets
from botify.core.kafka.config import common_config, key_of, partition_of
from botify.core.kafka.layout import ANY_LEAD_MS, declared_lead_ms, live_layout
from botify.core.kafka.reader import AssignedConsumer, log_record
from botify.core.settings import Settings
from botify.schemas.codec import Codec
from botify.schemas.events import Listen
from botify.schemas.topics import Topics
from botify.schemas.validation import erased_user, iter_valid
from botify.services.dashboard.figures import SCANNED, ListenerReading, ListenSample, PartitionSample
from botify.streams.read import StateReader
from botify.streams.store.connect import check_redis, connect

MOST_AT_ONCE = 10_000


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reader(Generic[T]):
    """Reads a part of the snapshot; `read` raises what Kafka's and Redis's clients raise."""

    read: Callable[[], T]
    close: Callable[[], None] = lambda: None


class Tail(AssignedConsumer):
    """Reads partitions from their `newest` records on, without a consumer group and without commits.

    Raises `TopicError` if the topic is missing or no broker answers.
    """

    def __init__(self, settings: Settings, topic: str, newest: int, partitions: Collection[int] | None = None) -> None:
        starts, ends = start_offsets(settings, topic), end_offsets(settings, topic)
        self._ends = {partition: ends[partition] for partition in sorted(ends if partitions is None else partitions)}
        super().__init__(
            settings,
            topic,
            {partition: max(starts[partition], end - newest) for partition, end in self._ends.items()},
            group="botify-dashboard",
            # few large fetches: the pages change once a second only
            fetch_min_bytes=1 << 20,
            fetch_wait_max_ms=500,
            queued_max_messages_kbytes=16_384,
        )

    def poll_to_end(self, timeout_s: float, key: bytes | None = None) -> list[Message]:
        """Return the records, of a key if one is given, up to the end at construction; fewer after the timeout."""
        give_up = time.monotonic() + timeout_s
        polled = []
        for records in self.poll_until(self._ends, MOST_AT_ONCE, wait_s=0.05):
            polled += records if key is None else [record for record in records if record.key() == key]
            if time.monotonic() > give_up:
                break
        return polled


SHARE = 4
"""One partition of `SHARE` is read. Users have one partition each, and treatments are drawn from another hash of the
user, so this is a random sample of listeners; a listen costs some 8 µs, and all would cost a tenth of a core."""

NEWEST = 4_000
"""Listens of each sampled partition from before the dashboard's start that count."""


FEW = 1_000
"""Listens that give a point of the history while nobody looks."""

TIMEOUT_S = 3.0


class SampledListens(NamedTuple):
    """The figures, and the listeners that they describe."""

    figures: ListenSample
    sample: PartitionSample


def listens_reader(settings: Settings, codec: Codec) -> Reader[SampledListens]:
    """Feed a `ListenSample`, which begins with the `NEWEST` listens, with those that arrive."""
    settings = live_layout(settings)
    count = -(-settings.partitions // SHARE)
    tail = Tail(settings, Topics.of(settings).listens.name, NEWEST, range(count))
    sampled = SampledListens(ListenSample(), PartitionSample(count, settings.partitions))

    def read() -> SampledListens:
        valid = iter_valid(tail.poll(MOST_AT_ONCE, wait_s=0.0), Listen, codec)
        sampled.figures.update(listen for _, listen in valid)
        return sampled

    return Reader(read, tail.close)


def newest_reader(settings: Settings, codec: Codec) -> Reader[ListenSample]:
    """Read the figures of the last listens of one partition, without following it."""

    def read() -> ListenSample:
        live, sample = live_layout(settings), ListenSample()
        with closing(Tail(live, Topics.of(live).listens.name, FEW, [0])) as tail:
            sample.update(listen for _, listen in iter_valid(tail.poll_to_end(TIMEOUT_S), Listen, codec))
        return sample

    return Reader(read)


def layout_reader(settings: Settings) -> Reader[str]:
    """Read which topic has the listens; it changes when they move to more partitions."""
    admin = AdminClient(common_config(settings))
    return Reader(lambda: live_layout(settings, admin).layout)


def lead_reader(settings: Settings) -> Reader[bool]:
    """Read whether the topic of the listens declares that their times are simulated."""
    return Reader(lambda: declared_lead_ms(live_layout(settings)) == ANY_LEAD_MS)


class ListenerReader:
    """Reads listeners, one at a time: a reading costs as much as a second of the collector."""

    def __init__(self, settings: Settings, codec: Codec) -> None:
        self._settings = settings
        self._codec = codec
        self._state: StateReader | None = None
        self._one_at_a_time = threading.Lock()

    def read(self, user: int) -> ListenerReading:
        """Return what is known about a listener; blocks, and raises what Kafka's and Redis's clients raise."""
        with self._one_at_a_time:
            check_kafka(self._settings)
            check_redis(self._settings)
            if self._state is None:
                self._state = StateReader(connect(self._settings), self._settings)
            (state,) = self._state.users([user])
            live = live_layout(self._settings)
            partition = partition_of(user, live.partitions)
            return ListenerReading(user, state, partition, () if state is None else self._listens(live, user))

    def _listens(self, settings: Settings, user: int) -> tuple[Listen, ...]:
        partition = partition_of(user, settings.partitions)
        listens: dict[str, Listen] = {}
        with closing(Tail(settings, Topics.of(settings).listens.name, SCANNED, [partition])) as tail:
            own = tail.poll_to_end(TIMEOUT_S, key_of(user))
        erased = [at for at, message in enumerate(own) if erased_user(log_record(message)) is not None]
        since = erased[-1] + 1 if erased else 0  # who comes back after an erasure is a new listener
        for _, listen in iter_valid(own[since:], Listen, self._codec):
            listens.setdefault(listen.event_id, listen)  # of copies the first, as in the worker
        return tuple(listens.values())
