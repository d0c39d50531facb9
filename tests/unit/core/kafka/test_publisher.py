"""Invariant: a record that is not acknowledged raises, at the latest in `flush`; queue and waits are bounded."""

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

import botify.core.kafka.publisher
from botify.core.errors import NoBrokerError, PublishError
from botify.core.kafka.publisher import RecordPublisher
from botify.core.settings import Settings

Callback = Callable[[KafkaError | None, Any], None]


class FakeProducer:
    """Holds `room` records until it is polled; then the broker answers with `answer`, or not at all."""

    def __init__(self) -> None:
        self.room = 3
        self.silent = False
        self.answer: KafkaError | None = None
        self.delivered: list[dict[str, Any]] = []
        self._queue: list[tuple[dict[str, Any], Callback | None]] = []

    def produce(
        self, topic: str, value: bytes | None, key: bytes | None, partition: int, callback: Callback | None, *_: object
    ) -> None:
        if len(self._queue) == self.room:
            raise BufferError
        self._queue.append(({"topic": topic, "value": value, "key": key}, callback))

    def produce_batch(self, topic: str, messages: list[dict[str, Any]], partition: int, on_delivery: Callback) -> int:
        queued = 0
        for message in messages:
            try:
                self.produce(topic, message["value"], message["key"], partition, on_delivery)
                queued += 1
            except BufferError:
                message["_error"] = KafkaError(KafkaError._QUEUE_FULL)
        return queued

    def poll(self, _: float) -> int:
        if self.silent:
            return 0
        answered, self._queue = self._queue, []
        for record, on_delivery in answered:
            if self.answer is None:
                self.delivered.append(record)
            elif on_delivery is not None:
                on_delivery(self.answer, SimpleNamespace(topic=lambda topic=record["topic"]: topic))
        return len(answered)

    def flush(self, timeout: float) -> int:
        self.poll(timeout)
        return len(self._queue)

    def list_topics(self, topic: str, timeout: float) -> None:
        if self.silent:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))


def make() -> tuple[RecordPublisher, FakeProducer]:
    producer: Any = FakeProducer()
    return RecordPublisher(Settings(), connect=lambda _: producer), producer


def test_a_full_queue_is_waited_for() -> None:
    publisher, producer = make()
    for number in range(10):
        publisher.send("t", b"%d" % number)
    publisher.flush()
    assert [record["value"] for record in producer.delivered] == [b"%d" % number for number in range(10)]


def test_a_queue_that_stays_full_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(botify.core.kafka.publisher, "FULL_QUEUE_S", 0.0)
    publisher, producer = make()
    producer.silent = True
    with pytest.raises(PublishError, match="t: Kafka accepted no records for 0 s"):
        publisher.send_batch("t", [{"key": b"%d" % number, "value": b"v"} for number in range(10)])
    with pytest.raises(PublishError, match="t: Kafka accepted no records for 0 s"):
        publisher.send("t", b"v")


def test_a_record_that_is_not_delivered_raises_at_every_later_call() -> None:
    publisher, producer = make()
    producer.answer = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)
    publisher.send("t", b"v")
    with pytest.raises(PublishError, match=r"^t: a record was not delivered: ") as raised:
        publisher.flush()
    assert raised.value.reason == f"a record was not delivered: {producer.answer.str()}"
    producer.answer = None
    for call in (publisher.poll, publisher.flush, lambda: publisher.send_batch("t", [{"key": b"1", "value": b"v"}])):
        with pytest.raises(PublishError):
            call()


def test_the_client_itself_reports_what_is_not_delivered() -> None:
    """The fake cannot tell which parameter of the client's `produce` the callback belongs to."""
    nowhere = Settings().with_(kafka_bootstrap_servers="127.0.0.1:1")
    for send, value in (("send", b"v"), ("send_batch", [{"key": b"1", "value": b"v"}])):
        publisher = RecordPublisher(nowhere, delivery_timeout_ms=20, linger_ms=1, on_error=lambda _: None)
        getattr(publisher, send)("t", value)
        with pytest.raises(PublishError, match=r"^t: a record was not delivered: .*timed out"):
            publisher.flush(5.0)


def test_a_flush_without_an_answer_names_the_topics_and_the_count() -> None:
    publisher, producer = make()
    producer.silent = True
    publisher.send("b", b"v")
    publisher.send("a", b"v")
    assert publisher.drain(0.1) == 2
    with pytest.raises(PublishError, match=r"^a, b: 2 records were not acknowledged within 0\.1 s"):
        publisher.flush(0.1)


def test_a_broker_that_does_not_answer_is_reported() -> None:
    publisher, producer = make()
    publisher.check_broker("t", 1.0)
    producer.silent = True
    with pytest.raises(NoBrokerError, match="t: no Kafka answers"):
        publisher.check_broker("t", 1.0)


def test_no_other_file_makes_a_producer() -> None:
    root, makes = Path(__file__).parents[4], re.compile(r"^from confluent_kafka import .*\bProducer\b", re.MULTILINE)
    packages = ("core", "schemas", "streams", "services", "sim", "analytics", "bench")
    files = [path for package in packages for path in (root / package).rglob("*.py")]
    found = {str(path.relative_to(root)) for path in files if makes.search(path.read_text(encoding="utf-8"))}
    assert found == {"core/kafka/publisher.py"}
