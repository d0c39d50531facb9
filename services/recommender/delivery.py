"""Offsets move only when the answers they gave rise to are acknowledged: at-least-once.

A service that dies answers some requests again; whoever asked knows the request id and drops the copy.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from core.errors import RejectedMessageError
from core.kafka.publisher import RecordPublisher
from schemas.dead_letters import dead_letter_headers
from services.errors import RecommenderError

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
    consumer : confluent_kafka.Consumer
    publisher : RecordPublisher
        One that calls back for every record.
    topic, dead_letters : str
        Topics of the answers, and of what cannot be answered.
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
        answers: Sequence[tuple[bytes, bytes]],
        rejected: Sequence[tuple[Message, RejectedMessageError]] = (),
    ) -> None:
        """Send the answers (key, value) to a batch of requests, and the dead letters that some of the batch are.

        Waits while too much is unacknowledged.

        Raises
        ------
        RecommenderError
            A broker refused an answer; the requests since will be answered again after the restart.
        """
        batch = _Batch({}, len(answers) + len(rejected))
        for request in requests:
            batch.offsets[request.topic(), request.partition()] = request.offset() + 1
        self._batches.append(batch)
        self._unacknowledged += batch.waiting

        def on_delivery(error: KafkaError | None, _: Message) -> None:
            batch.waiting -= 1
            self._unacknowledged -= 1
            if error is not None:
                self._refused = error

        produce = self._publisher.produce
        for key, value in answers:
            produce(self._topic, key=key, value=value, on_delivery=on_delivery)
        for message, reason in rejected:
            origin = message.topic(), message.partition(), message.offset()
            produce(
                self._dead_letters,
                key=message.key(),
                value=message.value(),
                headers=dead_letter_headers(*origin, message.headers(), reason),
                on_delivery=on_delivery,
            )
        self.poll()
        while self._unacknowledged > MAX_UNACKNOWLEDGED:
            self.poll(POLL_S)

    def poll(self, wait_s: float = 0.0) -> None:
        """Hear acknowledgements.

        Raises
        ------
        RecommenderError
            A broker refused an answer.
        """
        self._publisher.poll(wait_s)
        if self._refused is not None:
            raise RecommenderError(f"an answer or dead letter was not accepted by the brokers: {self._refused.str()}")
        while self._batches and self._batches[0].waiting == 0:
            self._committable.update(self._batches.popleft().offsets)

    def commit(self, *, wait: bool = False) -> None:
        """Commit what is acknowledged; with `wait`, everything that was sent, and wait for the broker."""
        if wait:
            self._publisher.drain()
            self.poll()
        if self._committable:
            offsets = [TopicPartition(topic, partition, at) for (topic, partition), at in self._committable.items()]
            self._committable = {}
            self._consumer.commit(offsets=offsets, asynchronous=not wait)

    def forget(self) -> None:
        """Drop what is not committed: the partitions are another's now."""
        self._batches.clear()
        self._committable.clear()
