"""Listens to their topic, from a file instead of from listeners."""

from __future__ import annotations

from collections.abc import Iterable

from confluent_kafka import KafkaError, Message, Producer

from schemas import clients
from schemas.errors import TopicError
from schemas.events import Listen
from schemas.registry import codec_of
from schemas.settings import Settings
from schemas.topic_reader import end_offsets
from schemas.topics import Topics

TIMEOUT_S = 30.0
POLL_S = 0.1


def publish_listens(settings: Settings, listens: Iterable[Listen]) -> int:
    """Write listens, and return how many they were once all are acknowledged.

    At least once: what is published again has the event ids that it had, so that readers and the worker drop it.

    Raises
    ------
    TopicError
        The topic does not exist, a broker refused a listen, or did not answer.
    """
    topic = Topics.of(settings).listens.name
    end_offsets(settings, topic)  # refuses a topic that does not exist, which producing would wait for
    refused: list[KafkaError] = []

    def on_delivery(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            refused.append(error)

    producer, codec, count = Producer(clients.producer_config(settings, linger_ms=20)), codec_of(settings), 0
    for listen in listens:
        key, value = clients.key_of(listen.user), codec.encode(listen)
        while not _taken(producer, topic, key, value, on_delivery) and not refused:
            producer.poll(POLL_S)  # the queue is full; what it holds is delivered or refused within its timeout
        if refused:
            break
        count += 1
    left = producer.flush(TIMEOUT_S)
    if refused or left:
        why = refused[0].str() if refused else f"{left:,} were not acknowledged within {TIMEOUT_S:.0f} s"
        raise TopicError(f"{topic}: not all listens were written: {why}; what is written again does no harm")
    return count


def _taken(producer: Producer, topic: str, key: bytes, value: bytes, on_delivery: object) -> bool:
    try:
        producer.produce(topic, value, key, on_delivery=on_delivery)
    except BufferError:
        return False
    producer.poll(0)
    return True
