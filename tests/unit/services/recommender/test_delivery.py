"""Invariant: the offset of a request is committed only when everything it gave rise to is acknowledged."""

from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
from confluent_kafka import TopicPartition

from botify.core.kafka.publisher import RecordPublisher
from botify.core.settings import Settings
from botify.schemas.codec import Codec
from botify.services.recommender import service
from botify.services.recommender.service import Delivery, RecommenderService
from tests.support import FakeMessage


def request(offset: int) -> Any:
    return FakeMessage(topic="requests", partition=0, offset=offset, key=b"1", value=b"raw")


class FakeProducer:
    """Holds acknowledgements back until they are given."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self._waiting: list[Callable[..., None]] = []
        self._due: list[Callable[..., None]] = []

    def produce(self, topic: str, on_delivery: Callable[..., None], **message: Any) -> None:
        self.sent.append({"topic": topic, **message})
        self._waiting.append(on_delivery)

    def produce_batch(
        self, topic: str, messages: list[dict[str, Any]], partition: int, on_delivery: Callable[..., None]
    ) -> int:
        for message in messages:
            self.produce(topic, on_delivery, partition=partition, **message)
        return len(messages)

    def acknowledge(self, n: int) -> None:
        self._due += self._waiting[:n]
        del self._waiting[:n]

    def poll(self, _: float) -> None:
        for callback in self._due:
            callback(None, None)
        self._due = []

    def flush(self, _: float) -> None:
        self.acknowledge(len(self._waiting))
        self.poll(0)


class FakeConsumer:
    def __init__(self) -> None:
        self.committed: list[tuple[int, int]] = []

    def commit(self, offsets: list[TopicPartition], asynchronous: bool) -> None:
        self.committed += [(tp.partition, tp.offset) for tp in offsets]


class Harness:
    def __init__(self) -> None:
        self.consumer, self.producer = FakeConsumer(), FakeProducer()
        publisher = RecordPublisher(Settings(), connect=lambda _: self.producer)  # type: ignore[arg-type,return-value]
        self.delivery = Delivery(self.consumer, publisher, "answers", "dead-letters")  # type: ignore[arg-type]

    def send(self, *offsets: int) -> None:
        answers = [{"key": b"1", "value": b"answer"} for _ in offsets]
        self.delivery.send([request(offset) for offset in offsets], {3: answers}, [])

    def commit(self) -> list[tuple[int, int]]:
        self.delivery.poll()
        self.delivery.commit()
        return self.consumer.committed


@pytest.fixture
def h() -> Harness:
    return Harness()


def test_a_last_commit_waits_for_everything(h: Harness) -> None:
    h.send(0, 1)
    h.delivery.commit(wait=True)
    assert h.consumer.committed == [(0, 2)]


def test_what_another_owns_by_now_is_not_committed(h: Harness) -> None:
    h.send(0)
    h.delivery.forget()
    h.producer.acknowledge(1)
    assert h.commit() == []
    h.send(7)
    h.producer.acknowledge(1)
    assert h.commit() == [(0, 8)]


def test_what_is_acknowledged_after_the_partitions_were_given_up_is_not_committed(h: Harness) -> None:
    h.send(0)
    with mock.patch.object(h.producer, "flush"):  # the brokers are slower than that
        h.delivery.commit(wait=True)
    h.producer.acknowledge(1)
    assert h.commit() == []


def test_what_was_received_before_the_partitions_were_given_up_is_left_to_their_next_owner() -> None:
    producer = FakeProducer()
    publisher = RecordPublisher(Settings(), connect=lambda _: producer)  # type: ignore[arg-type,return-value]
    with (
        mock.patch.object(service, "Consumer") as made,
        mock.patch.object(service, "RecordPublisher", return_value=publisher),
    ):
        recommender = RecommenderService(Settings(), Codec(), *[mock.MagicMock()] * 5)  # type: ignore[arg-type]
    consumer = made.return_value
    revoke = consumer.subscribe.call_args.kwargs["on_revoke"]

    def taken() -> list[bytes]:
        """Return the offsets of one step's requests: none can be decoded, so each becomes a dead letter."""
        producer.sent.clear()
        recommender.step(0.1)
        return [dict(sent["headers"])["__connect.errors.offset"] for sent in producer.sent]

    consumer.consume.side_effect = lambda most, _: [request(0 if most == 1 else 1)]
    assert taken() == [b"0", b"1"]

    def consume(most: int, _: float) -> list[Any]:
        if most > 1:
            revoke(consumer, [])
        return [request(0 if most == 1 else 1)]

    consumer.consume.side_effect = consume
    assert taken() == [b"1"]
