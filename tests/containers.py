"""Kafka and Redis in containers, by Testcontainers: the images that a deployment uses."""

from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka.admin import AdminClient
from redis import Redis
from redis.exceptions import RedisError
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

from botify.core.errors import TopicError
from botify.core.kafka.admin import partition_counts
from botify.core.kafka.config import common_config
from botify.core.settings import Settings
from botify.services.stack.ports import find_free
from tests.support import eventually

KAFKA_IMAGE = "apache/kafka:4.4.0"
REDIS_IMAGE = "redis:7-bookworm"
START_TIMEOUT_S = 90.0


@contextmanager
def running_containers() -> Iterator[Settings]:
    """Start both, wait until they answer, and remove them at the end."""
    testcontainers_config.ryuk_disabled = True  # it would be one more image; the block below removes what it started
    kafka_port = find_free()
    redis_port = find_free(frozenset([kafka_port]))
    kafka = DockerContainer(KAFKA_IMAGE).with_bind_ports(9092, kafka_port)
    for name, value in _kafka_environment(kafka_port).items():
        kafka = kafka.with_env(name, value)
    redis = DockerContainer(REDIS_IMAGE).with_bind_ports(6379, redis_port)
    with kafka, redis:
        settings = Settings.from_env({}).with_(
            kafka_bootstrap_servers=f"127.0.0.1:{kafka_port}", redis_url=f"redis://127.0.0.1:{redis_port}/0"
        )
        eventually(lambda: _redis_answers(settings), START_TIMEOUT_S, "Redis in its container")
        eventually(lambda: _kafka_answers(settings), START_TIMEOUT_S, "Kafka in its container")
        yield settings


def _kafka_environment(port: int) -> dict[str, str]:
    return {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_LISTENERS": "PLAINTEXT://:9092,CONTROLLER://:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{port}",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
    }


def _redis_answers(settings: Settings) -> bool:
    try:
        return bool(Redis.from_url(settings.redis_url, socket_timeout=1.0).ping())
    except RedisError:
        return False


def _kafka_answers(settings: Settings) -> bool:
    try:
        return partition_counts(AdminClient(common_config(settings))) is not None
    except TopicError:
        return False
