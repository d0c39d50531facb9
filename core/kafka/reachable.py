"""Whether Kafka answers: asked before a client would try for half a minute."""

from __future__ import annotations

import socket

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from core.errors import NoBrokerError
from core.kafka.config import common_config
from core.settings import Settings

CONNECT_TIMEOUT_S = 2.0
ANSWER_TIMEOUT_S = 5.0
_WAY_OUT = "start one with `botify up` or set KAFKA_BOOTSTRAP_SERVERS"


def check_kafka(settings: Settings) -> None:
    """Make sure that one of Kafka's addresses takes connections.

    Raises
    ------
    NoBrokerError
        None does.
    """
    addresses = [address.strip().rpartition(":") for address in settings.kafka_bootstrap_servers.split(",")]
    if not any(takes_connections(host, port) for host, _, port in addresses):
        raise NoBrokerError(f"no Kafka listens at {settings.kafka_bootstrap_servers}: {_WAY_OUT}")


def require_kafka(settings: Settings) -> Settings:
    """Return the settings if a broker answers within seconds: for commands, where somebody waits for the message.

    A process that runs for long is more patient: the broker may be about to come back.

    Raises
    ------
    NoBrokerError
        None does.
    """
    check_kafka(settings)
    admin = AdminClient(common_config(settings))
    try:
        admin.list_topics(timeout=ANSWER_TIMEOUT_S)
    except KafkaException as error:
        admin.poll(0)  # hears of a refusal
        raise NoBrokerError(
            f"Kafka at {settings.kafka_bootstrap_servers} does not answer ({error.args[0].str()}): {_WAY_OUT}"
        ) from error
    return settings


def takes_connections(host: str, port: str) -> bool:
    """Say whether somebody listens there."""
    try:
        socket.create_connection((host, int(port)), CONNECT_TIMEOUT_S).close()
    except (OSError, ValueError):
        return False
    return True
