"""Kafka records and runs of them, as the worker meets them."""

from collections.abc import Sequence
from typing import NamedTuple

from botify.core.kafka.config import key_of
from botify.schemas.codec import Codec
from botify.schemas.events import Listen
from botify.streams.worker.partition_manager import Batch

CODEC = Codec()
TOPIC = "botify.listens"
NOW_MS = 1_700_000_000_000
"""When the broker took the records."""


class KafkaRecord(NamedTuple):
    """The attributes of `aiokafka.ConsumerRecord` that the worker uses."""

    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int = NOW_MS
    partition: int = 0
    topic: str = TOPIC
    headers: Sequence[tuple[str, bytes]] = ()


def listen(event_id: str, user: int = 42, track: int = 7, *, ended: bool = False, timestamp_ms: int = 1_000) -> Listen:
    return Listen(event_id, user, track, 0.5, timestamp_ms, "s", 0, ended, None, {}, None, None)


def record(
    offset: int, event: Listen | None = None, *, key: bytes | None = None, raw: bytes | None = None
) -> KafkaRecord:
    """A record of a listen (its event id made of the offset), or of raw bytes."""
    event = event or listen(f"e{offset}")
    return KafkaRecord(offset, key or key_of(event.user), CODEC.encode(event) if raw is None else raw)


def run_of(*offsets: int, partition: int = 0) -> Batch:
    return Batch(partition, [record(offset)._replace(partition=partition) for offset in offsets])
