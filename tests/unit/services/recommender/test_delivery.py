"""Invariant: the offset of a request is committed only when everything it gave rise to is acknowledged."""

from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
from confluent_kafka import TopicPartition

from botify.core.settings import Settings
from botify.schemas.codec import Codec
from botify.services.recommender import service
from botify.services.recommender.service import Delivery, RecommenderService
from tests.support import FakeMessage

OWNED = TopicPartition("requests", 0)


def request(offset: int, partition: int = 0) -> Any:
    return FakeMessage(topic="requests", partition=partition, offset=offset, key=b"1", value=b"raw")


class FakePublisher:
    """Acknowledges at the poll after a test said so, or when it is drained."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self._waiting: list[Callable[..., None]] = []
        self._due: list[Callable[..., None]] = []

    def produce(self, _topic: str, on_delivery: Callable[..., None], **record: Any) -> None:
        self.sent.append(record)
        self._waiting.append(on_delivery)

    def send_batch(self, topic: str, records: list[Any], _partition: int, on_delivery: Callable[..., None]) -> None:
        for record in records:
            self.produce(topic, on_delivery, **record)

    def acknowledge(self) -> None:
        self._due, self._waiting = [*self._due, *self._waiting], []

    def poll(self, _: float) -> None:
        due, self._due = self._due, []
        for callback in due:
            callback(None, None)

    def drain(self) -> None:
        self.acknowledge()
        self.poll(0)


class Harness:
    def __init__(self) -> None:
        self.consumer, self.publisher = mock.MagicMock(), FakePublisher()
        self.delivery = Delivery(self.consumer, self.publisher, "answers", "dead-letters")  # type: ignore[arg-type]

    def send(self, *offsets: int) -> None:
        answers = [{"key": b"1", "value": b"answer"} for _ in offsets]
        self.delivery.send([request(offset) for offset in offsets], {3: answers}, [])

    def committed(self) -> list[int]:
        """Return all offsets that were committed."""
        return [one.offset for call in self.consumer.commit.call_args_list for one in call.kwargs["offsets"]]

    def acknowledged_and_committed(self) -> list[int]:
        self.publisher.acknowledge()
        self.delivery.poll()
        self.delivery.commit()
        return self.committed()


@pytest.fixture
def h() -> Harness:
    return Harness()


def test_a_last_commit_waits_for_everything(h: Harness) -> None:
    h.send(0, 1)
    h.delivery.commit(wait=True)
    assert h.committed() == [2]


def test_what_another_owns_by_now_is_not_committed(h: Harness) -> None:
    h.send(0)
    h.delivery.forget([OWNED])
    assert h.acknowledged_and_committed() == []
    h.send(7)
    assert h.acknowledged_and_committed() == [8]


def test_what_is_acknowledged_after_the_partitions_were_given_up_is_not_committed(h: Harness) -> None:
    h.send(0)
    with mock.patch.object(h.publisher, "drain"):  # the brokers are slower than that
        h.delivery.commit(wait=True)
    h.delivery.forget([OWNED])
    assert h.acknowledged_and_committed() == []


def test_what_is_not_acknowledged_yet_holds_up_partitions_that_are_kept(h: Harness) -> None:
    h.send(0)
    with mock.patch.object(h.publisher, "drain"):
        h.delivery.commit(wait=True)
    h.delivery.forget([TopicPartition("requests", 9)])
    h.send(1)
    assert h.committed() == []
    assert h.acknowledged_and_committed() == [2]


def test_what_was_received_before_the_partitions_were_given_up_is_left_to_their_next_owner() -> None:
    publisher = FakePublisher()
    with (
        mock.patch.object(service, "Consumer") as made,
        mock.patch.object(service, "member_config"),
        mock.patch.object(service, "RecordPublisher", return_value=publisher),
    ):
        recommender = RecommenderService(Settings(), Codec(), *[mock.MagicMock()] * 5)  # type: ignore[arg-type]
    consumer = made.return_value
    revoke = consumer.subscribe.call_args.kwargs["on_revoke"]

    def taken(revoked: list[int]) -> list[tuple[bytes, bytes]]:
        """Return partition and offset of one step's requests: none can be decoded, so each becomes a dead letter."""

        def consume(most: int, _: float) -> list[Any]:
            if most == 1:
                return [request(0, partition=1)]
            if revoked:
                revoke(consumer, [TopicPartition("requests", partition) for partition in revoked])
            return [request(1)]

        consumer.consume.side_effect = consume
        publisher.sent.clear()
        recommender.step(0.1)
        headers = [dict(sent["headers"]) for sent in publisher.sent]
        return [(one["__connect.errors.partition"], one["__connect.errors.offset"]) for one in headers]

    assert taken([]) == [(b"1", b"0"), (b"0", b"1")]
    assert taken([1]) == [(b"0", b"1")]
    assert taken([2]) == [(b"1", b"0"), (b"0", b"1")]  # KIP-848 takes some partitions only
