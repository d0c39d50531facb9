"""Requests to brokers: whether they answer, their topics and configuration, offsets of topics and groups."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from confluent_kafka import Consumer, IsolationLevel, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from botify.core.errors import NoBrokerError, TopicError
from botify.core.kafka.config import common_config, consumer_config, is_retriable
from botify.core.kafka.layout import live_layout
from botify.core.settings import Settings

T = TypeVar("T")

TIMEOUT_S = 30.0
METADATA_TIMEOUT_S = 10.0
TOPIC_ID_TIMEOUT_S = 10.0
GRACE_S = 1.0
"""Added where the client has a timeout of its own, whose error says more."""
RETRY_PAUSE_S = 0.05
CONNECT_TIMEOUT_S = 2.0
_WAY_OUT = "start one with `botify up` or set KAFKA_BOOTSTRAP_SERVERS"


def check_kafka(settings: Settings) -> None:
    """Raise `NoBrokerError` unless one of Kafka's addresses accepts connections."""
    addresses = [address.strip().rpartition(":") for address in settings.kafka_bootstrap_servers.split(",")]
    if not any(accepts_connections(host, port) for host, _, port in addresses):
        raise NoBrokerError(f"no Kafka listens at {settings.kafka_bootstrap_servers}: {_WAY_OUT}")


def require_kafka(settings: Settings) -> Settings:
    """Return the settings, with the live layout, if a broker answers; for commands, whose users wait for the error.

    Services wait longer: the broker may be restarting.

    Raises
    ------
    NoBrokerError
        No broker answers.
    """
    check_kafka(settings)
    admin = AdminClient(common_config(settings))
    try:
        return live_layout(settings, admin)
    except NoBrokerError as error:
        admin.poll(0)  # delivers a refusal to `error_cb`
        raise NoBrokerError(
            f"Kafka at {settings.kafka_bootstrap_servers} does not answer ({error}): {_WAY_OUT}"
        ) from error


def accepts_connections(host: str, port: str) -> bool:
    """Say whether a server listens at an address."""
    try:
        socket.create_connection((host, int(port)), CONNECT_TIMEOUT_S).close()
    except (OSError, ValueError):
        return False
    return True


def retry_brokers(ask: Callable[[], T], timeout_s: float = TIMEOUT_S) -> T:
    """Call `ask` until brokers answer it: one may be restarting, or leaders are being elected.

    Raises
    ------
    KafkaException or NoBrokerError
        What the last call raised: not retriable, or the timeout has passed.
    """
    give_up = time.monotonic() + timeout_s
    while True:
        try:
            return ask()
        except (KafkaException, NoBrokerError) as error:
            passing = isinstance(error, NoBrokerError) or is_retriable(error.args[0])
            if not passing or time.monotonic() > give_up:
                raise
            time.sleep(RETRY_PAUSE_S)


def partition_counts(admin: AdminClient) -> dict[str, int]:
    """Return each topic's number of partitions.

    Raises
    ------
    NoBrokerError
        No broker answers for `METADATA_TIMEOUT_S`.
    """
    give_up = time.monotonic() + METADATA_TIMEOUT_S
    while True:
        try:
            found = admin.list_topics(timeout=max(give_up - time.monotonic(), RETRY_PAUSE_S)).topics
            return {name: len(topic.partitions) for name, topic in found.items()}
        except KafkaException as error:
            admin.poll(0)  # delivers a refusal to `error_cb`
            # a broker that stops while it answers fails the request at once, and may be back in a moment
            if not is_retriable(error.args[0]) or time.monotonic() > give_up:
                raise NoBrokerError(f"no Kafka answers ({error.args[0].str()}); {_WAY_OUT}") from error
            time.sleep(RETRY_PAUSE_S)


def end_offsets(settings: Settings, topic: str) -> dict[int, int]:
    """Return the end of each partition: the next offset to be written, or where an open transaction begins.

    Raises
    ------
    TopicError
        The topic does not exist or no broker answers.
    """
    return _offsets(settings, topic, OffsetSpec.latest())


def start_offsets(settings: Settings, topic: str) -> dict[int, int]:
    """Return the first offset that the broker still has, by partition; raises as `end_offsets`."""
    return _offsets(settings, topic, OffsetSpec.earliest())


def offsets_at(settings: Settings, topic: str, timestamp_ms: int) -> dict[int, int]:
    """Return the first offset whose record was produced at that time or later, by partition; the end without one."""
    found = _offsets(settings, topic, OffsetSpec.for_timestamp(timestamp_ms))
    end = end_offsets(settings, topic)
    return {partition: end[partition] if offset < 0 else offset for partition, offset in found.items()}


def _offsets(settings: Settings, topic: str, spec: OffsetSpec) -> dict[int, int]:
    count = partition_counts(AdminClient(common_config(settings))).get(topic)
    if count is None:
        raise TopicError(f"topic {topic} does not exist; `botify topics create` creates it")

    try:
        found = list_offsets(common_config(settings), [(topic, partition) for partition in range(count)], spec)
    except KafkaException as error:
        raise TopicError(f"{topic}: the brokers do not say where it ends: {error.args[0].str()}") from error
    return {partition: offset for (_, partition), offset in found.items()}


def list_offsets(
    config: Mapping[str, Any],
    partitions: Iterable[tuple[str, int]],
    spec: OffsetSpec,
    known: AdminClient | None = None,
    isolation: IsolationLevel = IsolationLevel.READ_COMMITTED,
) -> dict[tuple[str, int], int]:
    """Return an offset of each (topic, partition), also while leaders of new topics are elected.

    Parameters
    ----------
    config : mapping
        Of the client.
    known : AdminClient, optional
        Is asked first: a new client costs threads and connections.
    isolation : IsolationLevel
        By default a partition ends where an open transaction begins; nobody reads what is after that.

    Raises
    ------
    KafkaException
        The brokers do not say.
    """
    wanted = {TopicPartition(topic, partition): spec for topic, partition in partitions}
    at_hand = [known] if known is not None else []

    def ask() -> dict[tuple[str, int], int]:
        # then a new client each time: one that asked before leaders were elected never finds them
        admin = at_hand.pop() if at_hand else AdminClient(dict(config))  # has a name: answers die with their client
        asked = admin.list_offsets(wanted, isolation_level=isolation)
        return {(at.topic, at.partition): future.result(TIMEOUT_S).offset for at, future in asked.items()}

    return retry_brokers(ask) if wanted else {}


def committed_offsets(
    settings: Settings, group: str, partitions: Iterable[tuple[str, int]], timeout_s: float
) -> dict[tuple[str, int], int]:
    """Return the committed offset of each (topic, partition) that has one, without joining the group.

    `AdminClient.list_consumer_group_offsets` asks the same, and ends the process with a segmentation fault where the
    group's coordinator is not ready (librdkafka 2.16: `rd_kafka_handle_OffsetFetch` hands the error to a group that an
    admin client does not have). A consumer that never subscribes has one.

    Raises
    ------
    KafkaException
        The brokers do not say.
    """
    consumer = Consumer(consumer_config(settings, group))
    try:
        asked = [TopicPartition(topic, partition) for topic, partition in partitions]
        found = consumer.committed(asked, timeout=timeout_s) if asked else []
    finally:
        consumer.close()
    return {(at.topic, at.partition): at.offset for at in found if at.error is None and at.offset >= 0}


def read_topic_id(admin: AdminClient, topic: str) -> str:
    """Return the topic's id, which another topic of the same name does not have.

    Raises
    ------
    KafkaException
        The brokers refuse to say.
    NoBrokerError
        None answers.
    """
    (future,) = admin.describe_topics(TopicCollection([topic]), request_timeout=TOPIC_ID_TIMEOUT_S).values()
    try:
        return str(future.result(TOPIC_ID_TIMEOUT_S + GRACE_S).topic_id)
    except TimeoutError as error:
        raise NoBrokerError(f"{topic}: no broker answers for {TOPIC_ID_TIMEOUT_S:.0f} s") from error
