"""Records as they are, to another topic or to standard output."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, TextIO

from confluent_kafka import KafkaError, Message, Producer
from confluent_kafka.admin import AdminClient

from schemas import clients
from schemas.codec import Codec
from schemas.errors import DecodeError
from schemas.events import Listen
from schemas.settings import Settings
from schemas.topics import partition_counts
from streams.offline.partition_log import LogRecord
from streams.replay.errors import ReplayError

ACKNOWLEDGE_TIMEOUT_S = 30.0


class TopicTarget:
    """Copies key, value, headers and timestamp to another topic.

    A copy that was killed begins anew: delivery is at least once, and a second copy of a listen has the same event id.
    Where both topics have as many partitions, a record keeps its own; otherwise its key decides.

    Raises
    ------
    ReplayError
        There is no such topic, or it is the one that is read.
    """

    def __init__(self, settings: Settings, source: str, topic: str) -> None:
        if topic == source:
            raise ReplayError(f"{topic} cannot be copied onto itself; name another topic")
        counts = partition_counts(AdminClient(clients.common_config(settings)))
        if topic not in counts:
            raise ReplayError(f"there is no topic {topic}; make it first, best with {counts[source]} partitions")
        self._topic = topic
        self._same_partitions = counts[topic] == counts[source]
        self._producer = Producer(clients.producer_config(settings, linger_ms=5))
        self._refused: list[KafkaError] = []

    async def open(self, partition: int, start: int) -> int:
        """Return the start: what was copied before is not known."""
        return start

    async def write(self, partition: int, records: Sequence[LogRecord]) -> None:
        """Send the records and wait for their acknowledgement; raises ReplayError without it."""
        await asyncio.to_thread(self._write, records)

    def _write(self, records: Sequence[LogRecord]) -> None:
        for record in records:
            message: dict[str, Any] = {"key": record.key, "value": record.value, "headers": list(record.headers)}
            if self._same_partitions:
                message["partition"] = record.partition
            self._produce(timestamp=record.timestamp, **message)
        unheard = self._producer.flush(ACKNOWLEDGE_TIMEOUT_S)
        if self._refused or unheard:
            why = self._refused[0].str() if self._refused else f"no answer in {ACKNOWLEDGE_TIMEOUT_S:.0f} s"
            raise ReplayError(f"{self._topic} did not take all records: {why}")

    def _produce(self, **message: Any) -> None:
        while True:
            try:
                self._producer.produce(self._topic, on_delivery=self._on_delivery, **message)
            except BufferError:
                self._producer.poll(0.05)
            else:
                return

    def _on_delivery(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self._refused.append(error)


class LinesTarget:
    """Writes each record as a line of JSON; a value that is no listen is given in hexadecimal."""

    def __init__(self, out: TextIO, codec: Codec) -> None:
        self._out = out
        self._codec = codec

    async def open(self, partition: int, start: int) -> int:
        """Return the start."""
        return start

    async def write(self, partition: int, records: Sequence[LogRecord]) -> None:
        """Write the lines; whoever reads them may hold this up."""
        self._out.write("".join(f"{json.dumps(self._line(record))}\n" for record in records))
        self._out.flush()

    def _line(self, record: LogRecord) -> dict[str, Any]:
        line: dict[str, Any] = {
            "partition": record.partition,
            "offset": record.offset,
            "timestamp": record.timestamp,
            "key": _text(record.key),
            "headers": {name: _text(value) for name, value in record.headers},
        }
        try:
            line["listen"] = self._codec.decode(record.value, Listen)._asdict()
        except DecodeError:
            line["value_hex"] = None if record.value is None else record.value.hex()
        return line


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else raw.decode("utf-8", "backslashreplace")
