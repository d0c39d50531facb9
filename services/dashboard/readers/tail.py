"""The newest records of a topic, and those that come after them."""

from __future__ import annotations

import time
from collections.abc import Collection

from confluent_kafka import Consumer, Message, TopicPartition

from schemas import clients
from schemas.errors import TopicError
from schemas.settings import Settings
from schemas.topic_reader import end_offsets, start_offsets


class Tail:
    """Follows partitions without a group and commits nothing: whoever starts anew begins with the newest records.

    Parameters
    ----------
    settings : Settings
    topic : str
    newest : int
        How many records that are there already are read, of each partition.
    partitions : collection of int, optional
        All of them by default.

    Raises
    ------
    TopicError
        The topic is missing, or no broker answers.
    """

    def __init__(self, settings: Settings, topic: str, newest: int, partitions: Collection[int] | None = None) -> None:
        self._topic = topic
        starts, ends = start_offsets(settings, topic), end_offsets(settings, topic)
        self.partitions = sorted(ends if partitions is None else partitions)
        begin = {partition: max(starts[partition], ends[partition] - newest) for partition in self.partitions}
        self._left = {partition: ends[partition] for partition in self.partitions if begin[partition] < ends[partition]}
        self._consumer = Consumer(
            clients.consumer_config(
                settings,
                group="botify-dashboard",
                # few big fetches: what is shown once a second need not be fetched a thousand times a second
                fetch_min_bytes=1 << 20,
                fetch_wait_max_ms=500,
                queued_max_messages_kbytes=16_384,
            )
        )
        self._consumer.assign([TopicPartition(topic, partition, begin[partition]) for partition in self.partitions])

    def take(self, most: int, timeout_s: float = 0.0) -> list[Message]:
        """Return what has come, at most so many records.

        Raises
        ------
        TopicError
            The broker says that the topic cannot be read.
        """
        taken = []
        for message in self._consumer.consume(most, timeout_s):
            if (error := message.error()) is None:
                taken.append(message)
                if message.offset() + 1 >= self._left.get(message.partition(), 1 << 62):
                    del self._left[message.partition()]
            elif not clients.is_passing(error):
                raise TopicError(f"{self._topic} cannot be read: {error.str()}")
        return taken

    def take_all(self, timeout_s: float) -> list[Message]:
        """Return the records that were there when this was made; fewer where the broker takes longer than that."""
        give_up = time.monotonic() + timeout_s
        taken = []
        while self._left and time.monotonic() < give_up:
            taken += self.take(5_000, timeout_s=0.05)
        return taken

    def close(self) -> None:
        """Stop following."""
        self._consumer.close()
