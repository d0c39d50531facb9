"""Configuration of all Kafka clients, and the partition of a user."""

import logging
from functools import lru_cache
from typing import Any

from aiokafka.partitioner import murmur2
from confluent_kafka import KafkaError

from botify.core.settings import Settings

log = logging.getLogger(__name__)

Config = dict[str, Any]

_PASSING = frozenset(
    {
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._TIMED_OUT,
        KafkaError._NOENT,  # "No leaders found": a broker that has just restarted does not know them yet
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.NOT_CONTROLLER,
        KafkaError.KAFKA_STORAGE_ERROR,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
    }
)


def common_config(settings: Settings) -> Config:
    """Return what producers, consumers and admin clients share (librdkafka's property names)."""
    return {
        "bootstrap.servers": settings.kafka_bootstrap_servers,
        "broker.address.family": "v4",
        "client.id": "botify",
        # a restarted broker is found soon; the default waits up to ten seconds
        "reconnect.backoff.max.ms": 1_000,
        # callers report an unreachable broker; librdkafka would do so twenty times a second
        "log_level": 2,
        "error_cb": tell_refusal,
        **settings.kafka_security,
    }


def tell_refusal(error: KafkaError) -> None:
    """Log once why a broker refuses the client, or is not trusted: callers only see that none answers."""
    if error.code() in (KafkaError._AUTHENTICATION, KafkaError._SSL):
        _tell_once(error.str().partition(" (after")[0])  # a duration follows


@lru_cache(maxsize=16)
def _tell_once(reason: str) -> None:
    log.error("Kafka: %s; see the settings KAFKA_SECURITY_PROTOCOL, KAFKA_SASL_* and KAFKA_SSL_*", reason)


METADATA_AGE_S = 5
"""How old the metadata of a consumer group's member may be.

A leader that assigns while a broker starts, and does not list a topic yet, gives nobody its partitions. The group stays
without work until the leader asks for metadata again, which clients do only every five minutes.
"""


LONG_POLL_MS = 500
"""How long a broker waits for a first record for a group's member, which fetches from a partition that another member
has given up only after the fetch under way."""


def producer_config(settings: Settings, **changes: Any) -> Config:
    """Return a producer's configuration: acknowledged by all replicas, idempotent, murmur2 like Java's clients.

    `changes` are librdkafka's properties with underscores for dots (`linger_ms=5`).
    """
    return {
        **common_config(settings),
        "acks": "all",
        "enable.idempotence": True,
        # librdkafka's own default is CRC32: a user would have two partition numbers
        "partitioner": "murmur2_random",
        "linger.ms": 1,
        "delivery.timeout.ms": 30_000,
        "queue.buffering.max.kbytes": 64 * 1024,  # the number of records alone bounds nothing: one may have 16 MB
        **_dotted(changes),
    }


def consumer_config(settings: Settings, group: str, **changes: Any) -> Config:
    """Return a consumer's configuration; offsets are committed after processing, never by a timer."""
    session_timeout_ms = settings.session_timeout_s * 1000
    return {
        **common_config(settings),
        "group.id": group,
        "session.timeout.ms": session_timeout_ms,
        # librdkafka's three seconds would be too late for a short session
        "heartbeat.interval.ms": session_timeout_ms // 5,
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "queued.max.messages.kbytes": 16 * 1024,  # fetched ahead
        "topic.metadata.refresh.interval.ms": METADATA_AGE_S * 1000,
        "fetch.wait.max.ms": 50,
        "fetch.error.backoff.ms": 50,
        **_dotted(changes),
    }


def is_retriable(error: KafkaError) -> bool:
    """Say whether an error is transient; `KafkaError.retriable` is set for transactional producers only."""
    return not error.fatal() and error.code() in _PASSING


@lru_cache(maxsize=1 << 17)  # 250 bytes each
def partition_of(user: int, partitions: int) -> int:
    """Return the partition of a user's records: murmur2 of the id in decimal, as Kafka's own clients compute it."""
    hashed: int = murmur2(key_of(user))
    return (hashed & 0x7FFFFFFF) % partitions


def key_of(user: int) -> bytes:
    """Return the record key of a user (or of a track): decimal UTF-8."""
    return b"%d" % user


def _dotted(changes: dict[str, Any]) -> Config:
    return {option.replace("_", "."): value for option, value in changes.items()}
