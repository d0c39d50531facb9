"""A producer that tells when the broker did not take something."""

from __future__ import annotations

import time
from typing import Any

from confluent_kafka import KafkaError, Message, Producer

from schemas import clients
from schemas.settings import Settings
from sim.errors import SimulationError

QUEUE_RECORDS = 100_000
FULL_QUEUE_S = 30.0
FLUSH_S = 60.0

Record = dict[str, Any]
"""A record to be sent: `key` and `value`, bytes."""


class Sender:
    """Sends records in batches.

    At-least-once up to the broker's acknowledgement by all replicas; the producer is idempotent, so a retry of its own
    makes no copy. A record that was not delivered raises at the next call, and at the latest in `close`.
    """

    def __init__(self, settings: Settings, linger_ms: int) -> None:
        self._producer = Producer(
            clients.producer_config(
                settings,
                linger_ms=linger_ms,
                queue_buffering_max_messages=QUEUE_RECORDS,
                # Only failures call back: a call into Python for each record would cost more than sending it.
                delivery_report_only_error=True,
            )
        )
        self._failure: str | None = None

    def send(self, topic: str, records: list[Record]) -> None:
        """Queue records; those of one key keep their order from call to call.

        Parameters
        ----------
        topic : str
        records : list of Record
            No key twice: what finds the queue full is queued after the others.

        Raises
        ------
        SimulationError
            An earlier record was not delivered, or the queue stays full.
        """
        give_up = time.monotonic() + FULL_QUEUE_S
        while records:
            queued = self._producer.produce_batch(topic, records, on_delivery=self._delivered)
            self._producer.poll(0)
            self._raise_failure()
            # Those that found the queue full are marked.
            records = [_unmarked(record) for record in records if "_error" in record] if queued < len(records) else []
            if records:
                self._wait_for_room(topic, give_up)

    def send_each(self, topic: str, records: list[Record], headers: list[tuple[str, bytes]]) -> None:
        """Queue records with headers, which a batch cannot have; raises as `send`."""
        give_up = time.monotonic() + FULL_QUEUE_S
        for record in records:
            while True:
                try:
                    self._producer.produce(topic, **record, headers=headers, on_delivery=self._delivered)
                    break
                except BufferError:
                    self._wait_for_room(topic, give_up)
            self._raise_failure()

    def close(self) -> None:
        """Wait until all is delivered.

        Raises
        ------
        SimulationError
            Something was not.
        """
        left = self._producer.flush(FLUSH_S)
        self._raise_failure()
        if left:
            raise SimulationError(f"Kafka did not acknowledge {left} records within {FLUSH_S:.0f} s")

    def _wait_for_room(self, topic: str, give_up: float) -> None:
        if time.monotonic() > give_up:
            raise SimulationError(f"{topic}: Kafka took no records for {FULL_QUEUE_S:.0f} s; is it up?")
        self._producer.poll(0.05)

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None and self._failure is None:
            self._failure = f"{message.topic()}: a record was not delivered: {error.str()}"

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise SimulationError(self._failure)


def _unmarked(record: Record) -> Record:
    return {"key": record["key"], "value": record["value"]}
