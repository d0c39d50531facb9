"""The simulator's side of the recommendations topic."""

from __future__ import annotations

from confluent_kafka import Consumer, KafkaError, TopicPartition

from schemas import clients
from schemas.codec import Codec
from schemas.errors import DecodeError
from schemas.events import Recommendation
from schemas.settings import Settings
from schemas.topic_reader import end_offsets
from schemas.topics import Topics
from sim.errors import SimulationError

MOST_AT_ONCE = 2000


class Replies:
    """Recommendations that are made from now on.

    Reads all partitions without a group and commits nothing: whoever waits for an answer reads it once and drops
    copies; a simulator that starts later has no use for what was answered before.

    Attributes
    ----------
    undecodable : int
        Records so far that hold no recommendation.
    """

    def __init__(self, settings: Settings, codec: Codec) -> None:
        topic = Topics.of(settings).recommendations.name
        self._codec = codec
        self.undecodable = 0
        self._consumer = Consumer(
            clients.consumer_config(settings, group="botify-sim", fetch_wait_max_ms=10, queued_min_messages=10_000)
        )
        self._consumer.assign([TopicPartition(topic, p, offset) for p, offset in end_offsets(settings, topic).items()])

    def receive(self, wait_s: float, gather_s: float) -> list[Recommendation]:
        """Wait for the first recommendation, then take what has come.

        Parameters
        ----------
        wait_s : float
            How long to wait for the first.
        gather_s : float
            How long to go on collecting after it; a fuller batch costs less per recommendation.

        Raises
        ------
        SimulationError
            Kafka cannot be read.
        """
        first = self._consumer.poll(wait_s)
        if first is None:
            return []
        values = []
        for message in [first, *self._consumer.consume(MOST_AT_ONCE, gather_s)]:
            if (error := message.error()) is not None:
                _raise_unless_passing(error)
            else:
                values.append(message.value())
        read = self._codec.decode_many(values, Recommendation)
        recommendations = [one for one in read if not isinstance(one, DecodeError)]
        self.undecodable += len(read) - len(recommendations)
        return recommendations

    def close(self) -> None:
        """Stop reading."""
        self._consumer.close()


def _raise_unless_passing(error: KafkaError) -> None:
    if not clients.is_passing(error):
        raise SimulationError(f"recommendations cannot be read: {error.str()}")
