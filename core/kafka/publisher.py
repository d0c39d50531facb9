"""Publish records to Kafka topics: the one producer of all packages."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition

from botify.core.errors import NoBrokerError, PublishError
from botify.core.kafka.config import Config, producer_config
from botify.core.settings import Settings

QUEUE_RECORDS = 100_000
FULL_QUEUE_S = 30.0  # how long a full queue may accept no record
FLUSH_S = 30.0
WAIT_FOR_ROOM_S = 0.05
TRANSACTION_S = 10.0  # for each part of a transaction; one of a killed program is dropped after that
FENCED = KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED
"""Errors of a transactional producer whose place another one has taken."""

Record = dict[str, Any]  # of a batch: `key` and `value`; a `partition` would be ignored (confluent-kafka 2.16)
OnDelivery = Callable[[KafkaError | None, Message], None]
Headers = Sequence[tuple[str, bytes]]


class RecordPublisher:
    """Publish records through a bounded queue, and report those that are not delivered.

    At least once: a record counts as delivered when all in-sync replicas have acknowledged it. The producer is
    idempotent, so its own retries make no copy and keep the order of a partition. A caller that publishes again after
    an error or a restart makes a duplicate, and states what that does: events carry ids by which readers drop copies,
    and in a compacted topic the copy replaces its equal.

    An error is kept: `send`'s waits, `send_batch`, `poll` and `flush` raise it from then on, so that a topic with a gap
    is not mistaken for complete. To continue, make another publisher. All methods are thread-safe.

    `on_error` is called for errors of the connection, instead of logging refused logins. `config` are librdkafka's
    properties with underscores for dots (`linger_ms=5`). `produce` is the client's own method, for callers that have
    their own `on_delivery` and never wait. It raises `BufferError` if the queue is full. Successes call back only with
    `delivery_report_only_error=False`: a call into Python for each record costs more than sending it.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        on_error: Callable[[KafkaError], None] | None = None,
        connect: Callable[[Config], Producer] = Producer,
        **config: Any,
    ) -> None:
        defaults = {"queue_buffering_max_messages": QUEUE_RECORDS, "delivery_report_only_error": True}
        properties = producer_config(settings, **{**defaults, **config})
        if on_error is not None:
            properties["error_cb"] = on_error
        self._producer = connect(properties)
        self.produce = self._producer.produce
        self._topics: set[str] = set()
        self._failure: tuple[str, str] | None = None

    def send(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        *,
        partition: int = -1,
        timestamp_ms: int = 0,
        headers: Headers = (),
    ) -> None:
        """Queue a record; wait if the queue is full. Partition -1 derives it from the key, time 0 means now.

        Raises `PublishError` if the client refuses the record, the queue is full for `FULL_QUEUE_S`, or, if it was
        full, an earlier record was not delivered.
        """
        self._topics.add(topic)
        give_up: float | None = None
        kept = list(headers) if headers else None
        while True:
            try:
                # By position: keywords would cost as much as the call. The callback goes to the parameter's older
                # name: a None there would be taken for it, and no error would ever be reported.
                self.produce(topic, value, key, partition, self._on_delivery, None, timestamp_ms, kept)
            except BufferError:
                give_up = give_up or time.monotonic() + FULL_QUEUE_S
                self._wait_for_room(topic, give_up)
            except KafkaException as error:
                raise PublishError(topic, error.args[0].str()) from error
            else:
                return

    def send_batch(
        self, topic: str, records: list[Record], partition: int = -1, on_delivery: OnDelivery | None = None
    ) -> None:
        """Queue records in one call; those of one key keep their order from call to call, but not within it.

        Records that find the queue full are queued after the others. `on_delivery` is called for each record, instead
        of keeping its error (see `produce`). Raises `PublishError` as `send`.
        """
        self._topics.add(topic)
        give_up, report = time.monotonic() + FULL_QUEUE_S, on_delivery or self._on_delivery
        while records:
            queued = self._producer.produce_batch(topic, records, partition=partition, on_delivery=report)
            self.poll()
            # those that found the queue full are marked
            full = [record for record in records if "_error" in record] if queued < len(records) else []
            records = [{"key": record["key"], "value": record["value"]} for record in full]
            if records:
                self._wait_for_room(topic, give_up)

    def poll(self, wait_s: float = 0.0) -> None:
        """Serve delivery callbacks, and raise `PublishError` if a record was not delivered."""
        self._producer.poll(wait_s)
        self._raise_failure()

    def drain(self, timeout_s: float = FLUSH_S) -> int:
        """Wait until the queue is empty; return how many records are still in it after the timeout."""
        left: int = self._producer.flush(timeout_s)
        return left

    def flush(self, timeout_s: float = FLUSH_S) -> None:
        """Wait until every record is acknowledged; raises `PublishError` if one was refused, dropped, or is late."""
        self._raise_failure()
        left = self.drain(timeout_s)
        self._raise_failure()
        if left:
            topics = ", ".join(sorted(self._topics))
            raise PublishError(topics, f"{left:,} records were not acknowledged within {timeout_s:g} s")

    def drop(self) -> None:
        """Drop what is not acknowledged. Every `flush` raises from now on, also one that waits in another thread."""
        topics = ", ".join(sorted(self._topics.copy()))
        self._failure = self._failure or (topics, "what was not acknowledged is dropped")
        self._producer.purge()

    def check_broker(self, topic: str, timeout_s: float) -> None:
        """Ask a broker for the topic; raises `NoBrokerError` if none answers within the timeout."""
        try:
            self._producer.list_topics(topic, timeout=timeout_s)
        except KafkaException as error:
            raise NoBrokerError(f"{topic}: no Kafka answers ({error.args[0].str()})") from error

    def _wait_for_room(self, topic: str, give_up: float) -> None:
        if time.monotonic() > give_up:
            raise PublishError(topic, f"Kafka accepted no records for {FULL_QUEUE_S:.0f} s; is it up?")
        self.poll(WAIT_FOR_ROOM_S)

    def _on_delivery(self, error: KafkaError | None, message: Message) -> None:
        if error is not None and self._failure is None:
            self._failure = str(message.topic()), f"a record was not delivered: {error.str()}"

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise PublishError(*self._failure)


class TransactionalPublisher(RecordPublisher):
    """Publishes in transactions that also commit how far the input was read: exactly once for all that read committed.

    One that begins ends those of others of its name: what they had open is dropped, and whatever they do from then on
    raises `PublishError`. So does any failure; start again from the committed offsets, with another publisher.
    """

    def __init__(self, settings: Settings, name: str, *, timeout_s: float, **config: Any) -> None:
        config |= dict.fromkeys(("transaction_timeout_ms", "delivery_timeout_ms"), int(timeout_s * 1000))
        super().__init__(settings, transactional_id=name, **config)
        self._name, self._timeout_s = name, timeout_s
        self._try("begin", lambda: self._producer.init_transactions(timeout_s))

    def begin(self) -> None:
        """Begin a transaction, to which everything belongs that is sent until `commit`."""
        self._try("begin", self._producer.begin_transaction)

    def commit(self, topic: str, offsets: Mapping[int, int], group: Any) -> None:
        """Commit what was sent, and the next offsets to be read of a topic in a consumer group (its metadata)."""
        places = [TopicPartition(topic, partition, offset) for partition, offset in offsets.items()]
        self._try("commit", lambda: self._producer.send_offsets_to_transaction(places, group, self._timeout_s))
        self._try("commit", lambda: self._producer.commit_transaction(self._timeout_s))
        self._raise_failure()

    def _try(self, what: str, step: Callable[[], None]) -> None:
        give_up = time.monotonic() + self._timeout_s
        while True:
            try:
                return step()
            except KafkaException as failed:
                error = failed.args[0]
                if error.retriable() and time.monotonic() < give_up:
                    continue
                self._raise_failure()
                if error.code() in FENCED:
                    raise PublishError(self._name, "another process of this name has taken over") from failed
                raise PublishError(self._name, f"the transaction did not {what}: {error.str()}") from failed


def append_if(
    settings: Settings,
    topic: str,
    key: str,
    value: bytes,
    unchanged: Callable[[], bool],
    connect: Callable[[Config], Producer] = Producer,
) -> bool:
    """Append a record that follows what the caller has read of its key; return False if others have appended one.

    In a transaction named after topic and key. One that begins ends those of others, whose commits are refused from
    then on: what `unchanged` reads next, and finds as it was, stays the last record until this one. Raises
    `PublishError` if a broker refused it or did not answer; read the topic to find out whether it was appended.
    """
    limits = dict.fromkeys(("transaction_timeout_ms", "delivery_timeout_ms"), int(TRANSACTION_S * 1000))
    producer = connect(producer_config(settings, transactional_id=f"{topic}-{key}", **limits))
    try:
        producer.init_transactions(TRANSACTION_S)
        if not unchanged():
            return False
        producer.begin_transaction()
        producer.produce(topic, value, key.encode())
        producer.commit_transaction(TRANSACTION_S)
    except KafkaException as error:
        if error.args[0].code() in FENCED:
            return False
        raise PublishError(topic, error.args[0].str()) from error
    return True
