"""Invariant: the offset of a request is committed only when everything it gave rise to is acknowledged."""

from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
from confluent_kafka import KafkaError, TopicPartition

from botify.core.errors import DecodeError
from botify.core.kafka.publisher import RecordPublisher
from botify.core.settings import Settings
from botify.schemas.codec import Codec
from botify.services.errors import RecommenderError
from botify.services.recommender import service
from botify.services.recommender.service import Delivery, RecommenderService


class FakeMessage:
    def __init__(self, offset: int, partition: int = 0) -> None:
        self._at = ("requests", partition, offset)

    def topic(self) -> str:
        return self._at[0]

    def partition(self) -> int:
        return self._at[1]

    def offset(self) -> int:
        return self._at[2]

    def key(self) -> bytes:
        return b"1"

    def value(self) -> bytes:
        return b"raw"

    def headers(self) -> None:
        return None

    def error(self) -> None:
        return None


class FakeProducer:
    """Holds acknowledgements back until they are given."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self._waiting: list[Callable[..., None]] = []
        self._due: list[tuple[Callable[..., None], KafkaError | None]] = []

    def produce(self, topic: str, on_delivery: Callable[..., None], **message: Any) -> None:
        self.sent.append({"topic": topic, **message})
        self._waiting.append(on_delivery)

    def produce_batch(
        self, topic: str, messages: list[dict[str, Any]], partition: int, on_delivery: Callable[..., None]
    ) -> int:
        for message in messages:
            self.produce(topic, on_delivery, partition=partition, **message)
        return len(messages)

    def acknowledge(self, n: int, error: KafkaError | None = None) -> None:
        self._due += [(callback, error) for callback in self._waiting[:n]]
        del self._waiting[:n]

    def poll(self, _: float) -> None:
        for callback, error in self._due:
            callback(error, None)
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

    def send(self, *offsets: int, answers: int | None = None, rejected: int = 0) -> None:
        messages: list[Any] = [FakeMessage(offset) for offset in offsets]
        n = len(messages) - rejected if answers is None else answers
        letters = [(message, DecodeError("no", b"raw")) for message in messages[len(messages) - rejected :]]
        self.delivery.send(messages, {3: [{"key": b"1", "value": b"answer"} for _ in range(n)]}, letters)

    def commit(self) -> list[tuple[int, int]]:
        self.delivery.poll()
        self.delivery.commit()
        return self.consumer.committed


@pytest.fixture
def h() -> Harness:
    return Harness()


def test_nothing_is_committed_before_the_last_acknowledgement(h: Harness) -> None:
    h.send(0, 1, 2)
    assert h.commit() == []
    h.producer.acknowledge(2)
    assert h.commit() == []
    h.producer.acknowledge(1)
    assert h.commit() == [(0, 3)]


def test_a_batch_waits_for_those_before_it(h: Harness) -> None:
    h.send(0)
    h.send(1, answers=0)
    assert h.commit() == []
    h.producer.acknowledge(1)
    assert h.commit() == [(0, 2)]


def test_a_dead_letter_is_waited_for_as_an_answer_is(h: Harness) -> None:
    h.send(0, 1, rejected=1)
    assert [(sent["topic"], sent.get("partition")) for sent in h.producer.sent] == [
        ("answers", 3),
        ("dead-letters", None),
    ]
    assert dict(h.producer.sent[1]["headers"])["__connect.errors.offset"] == b"1"
    h.producer.acknowledge(1)
    assert h.commit() == []
    h.producer.acknowledge(1)
    assert h.commit() == [(0, 2)]


def test_a_refused_answer_ends_the_service_and_commits_nothing(h: Harness) -> None:
    h.send(0)
    h.producer.acknowledge(1, KafkaError(KafkaError.MSG_SIZE_TOO_LARGE))
    with pytest.raises(RecommenderError, match="the brokers refused an answer"):
        h.delivery.poll()
    h.delivery.commit()
    assert h.consumer.committed == []


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

    consumer.consume.side_effect = lambda most, _: [FakeMessage(0 if most == 1 else 1)]
    assert taken() == [b"0", b"1"]

    def consume(most: int, _: float) -> list[Any]:
        if most > 1:
            revoke(consumer, [])
        return [FakeMessage(0 if most == 1 else 1)]

    consumer.consume.side_effect = consume
    assert taken() == [b"1"]
