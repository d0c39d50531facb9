"""What workers and learners ask the brokers about their topic and their group; blocking."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from schemas import clients
from schemas.committed_offsets import committed_offsets
from schemas.errors import NoBrokerError, TopicError
from schemas.settings import Settings
from schemas.topic_id import read_topic_id
from schemas.topic_reader import end_offsets, start_offsets
from schemas.topics import TIMEOUT_S
from streams.worker.topic_state import TopicState

T = TypeVar("T")

RETRY_PAUSE_S = 0.2


def group_of(settings: Settings) -> str:
    """Return the name of the workers' consumer group.

    Examples
    --------
    >>> group_of(Settings())
    'botify-streams'
    """
    return f"{settings.topic_prefix}-streams"


def learner_group_of(settings: Settings) -> str:
    """Return the name of the learners' consumer group.

    Examples
    --------
    >>> learner_group_of(Settings())
    'botify-learner'
    """
    return f"{settings.topic_prefix}-learner"


def describe_topic(settings: Settings, topic: str, group: str) -> TopicState:
    """Return the topic's id, its bounds, and what the group has committed.

    Raises
    ------
    TopicError
        The topic does not exist, or no broker answers for `TIMEOUT_S`.
    """
    admin = AdminClient(clients.common_config(settings))

    def ask() -> TopicState:
        topic_id = read_topic_id(admin, topic)
        start, end = start_offsets(settings, topic), end_offsets(settings, topic)
        return TopicState(topic_id, start, end, _committed(settings, group, topic, sorted(start)))

    try:
        return ask_patiently(ask)
    except KafkaException as error:
        raise TopicError(f"{topic}: the brokers do not describe it: {error.args[0].str()}") from error


def ask_patiently(ask: Callable[[], T]) -> T:
    """Ask again while no broker answers, for `TIMEOUT_S`: one may restart in the middle of a rebalance.

    Raises
    ------
    KafkaException or NoBrokerError
        The last answer, if it was that.
    """
    give_up = time.monotonic() + TIMEOUT_S
    while True:
        try:
            return ask()
        except (KafkaException, NoBrokerError) as error:
            passing = isinstance(error, NoBrokerError) or clients.is_passing(error.args[0])
            if not passing or time.monotonic() > give_up:
                raise
            time.sleep(RETRY_PAUSE_S)


class TopicWatch:
    """Asks for a topic's id from time to time."""

    def __init__(self, settings: Settings, topic: str) -> None:
        self._admin = AdminClient(clients.common_config(settings))
        self._topic = topic

    def read_id(self) -> str | None:
        """Return the id; None where the brokers do not say."""
        try:
            return read_topic_id(self._admin, self._topic)
        except (KafkaException, NoBrokerError):
            return None


def _committed(settings: Settings, group: str, topic: str, partitions: list[int]) -> dict[int, int]:
    asked = [(topic, partition) for partition in partitions]
    found = committed_offsets(settings, group, asked, TIMEOUT_S)
    return {partition: offset for (_, partition), offset in found.items()}
