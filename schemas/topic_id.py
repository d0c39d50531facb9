"""Which topic is this? One that was deleted and made anew has the same name and another id."""

from __future__ import annotations

from confluent_kafka import TopicCollection
from confluent_kafka.admin import AdminClient

from schemas.errors import NoBrokerError

TIMEOUT_S = 10.0
GRACE_S = 1.0
"""Until the client itself says that the time is over."""


def read_topic_id(admin: AdminClient, topic: str) -> str:
    """Return the topic's id, which another topic of the same name does not have.

    Raises
    ------
    KafkaException
        The brokers refuse to say.
    NoBrokerError
        None answers.
    """
    (future,) = admin.describe_topics(TopicCollection([topic]), request_timeout=TIMEOUT_S).values()
    try:
        return str(future.result(TIMEOUT_S + GRACE_S).topic_id)
    except TimeoutError as error:
        raise NoBrokerError(f"{topic}: no broker answers for {TIMEOUT_S:.0f} s") from error
