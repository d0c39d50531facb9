"""Which topic is this? One that was deleted and made anew has the same name and another id."""

from __future__ import annotations

from confluent_kafka import TopicCollection
from confluent_kafka.admin import AdminClient

TIMEOUT_S = 30.0


def read_topic_id(admin: AdminClient, topic: str) -> str:
    """Return the topic's id, which another topic of the same name does not have; raises KafkaException."""
    (future,) = admin.describe_topics(TopicCollection([topic])).values()
    return str(future.result(TIMEOUT_S).topic_id)
