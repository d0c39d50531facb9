"""Answers are sent, and the offsets of their requests committed when the brokers have acknowledged them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from botify.core.errors import RejectedMessageError
from botify.core.kafka.headers import headers_of
from botify.core.kafka.publisher import Record, RecordPublisher
from botify.schemas.dead_letters import dead_letter
from botify.services.errors import RecommenderError

Rejected = tuple[Message, RejectedMessageError]

MAX_UNACKNOWLEDGED = 20_000
POLL_S = 0.05


@dataclass(slots=True)
class _Batch:
    offsets: dict[tuple[str, int], int]
    waiting: int


class Delivery:
    """Sends batches of answers and commits the requests' offsets behind them.

    Parameters
    ----------
    publisher : RecordPublisher
        It must report the delivery of every record.
    topic, dead_letters : str
        Topics of the answers and of the dead letters.
    """

    def __init__(self, consumer: Consumer, publisher: RecordPublisher, topic: str, dead_letters: str) -> None:
        self._consumer = consumer
        self._publisher = publisher
        self._topic = topic
        self._dead_letters = dead_letters
        self._batches: deque[_Batch] = deque()
        self._unacknowledged = 0
        self._committable: dict[tuple[str, int], int] = {}
        self._refused: KafkaError | None = None

    def send(
        self,
        requests: Sequence[Message],
        answers: Mapping[int, list[Record]],
        rejected: Sequence[Rejected] = (),
    ) -> None:
        """Send the answers to a batch of requests, by partition (-1 is the key's), and its dead letters.

        Waits while more than `MAX_UNACKNOWLEDGED` records are unacknowledged.

        Raises
        ------
        RecommenderError
            A broker refused an answer; requests since the last commit are answered again after a restart.
        """
        if rejected:
            self._publisher.drain()  # they may be large, and `produce` does not wait while the queue is full
        batch = _Batch({}, sum(map(len, answers.values())) + len(rejected))
        for request in requests:
            batch.offsets[request.topic(), request.partition()] = request.offset() + 1
        self._batches.append(batch)
        self._unacknowledged += batch.waiting

        def on_delivery(error: KafkaError | None, _: Message) -> None:
            batch.waiting -= 1
            self._unacknowledged -= 1
            if error is not None:
                self._refused = error

        for partition, records in answers.items():
            self._publisher.send_batch(self._topic, records, partition, on_delivery)
        produce = self._publisher.produce
        for message, reason in rejected:
            origin = message.topic(), message.partition(), message.offset()
            letter = dead_letter(origin, message.key(), message.value(), headers_of(message), reason)
            produce(self._dead_letters, **letter, on_delivery=on_delivery)
        self.poll()
        while self._unacknowledged > MAX_UNACKNOWLEDGED:
            self.poll(POLL_S)

    def poll(self, wait_s: float = 0.0) -> None:
        """Handle acknowledgements; wait for the first one if none has arrived.

        Raises
        ------
        RecommenderError
            A broker refused an answer.
        """
        self._publisher.poll(wait_s)
        if self._refused is not None:
            raise RecommenderError(f"the brokers refused an answer or a dead letter: {self._refused.str()}")
        while self._batches and self._batches[0].waiting == 0:
            self._committable.update(self._batches.popleft().offsets)

    def commit(self, *, wait: bool = False) -> None:
        """Commit acknowledged requests.

        With `wait`, as the partitions are given up: first flush everything, and wait for the broker. What is not
        acknowledged then is left to the next owner, whose commit a later one would undo.
        """
        if wait:
            self._publisher.drain()
            self.poll()
            self._batches.clear()
        if self._committable:
            offsets = [TopicPartition(topic, partition, at) for (topic, partition), at in self._committable.items()]
            self._committable = {}
            self._consumer.commit(offsets=offsets, asynchronous=not wait)

    def forget(self) -> None:
        """Drop what is not committed: another member owns the partitions now."""
        self._batches.clear()
        self._committable.clear()
