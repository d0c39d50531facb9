"""Members of a consumer group: which protocol they rebalance by, and whether one is left without partitions."""

import logging
from typing import Any

from confluent_kafka import ConsumerGroupState, KafkaException
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from botify.core.errors import NoBrokerError
from botify.core.kafka.admin import ASK_TIMEOUT_S, retry_brokers
from botify.core.kafka.config import Config, common_config, consumer_config, is_retriable
from botify.core.settings import Settings

log = logging.getLogger(__name__)

HEARTBEAT_MS = 100
"""Time between two heartbeats of a member, which learns with the next one that it owns what another has given up."""

_CLASSIC_ONLY = {"session.timeout.ms", "heartbeat.interval.ms"}


def member_config(settings: Settings, group: str, **changes: Any) -> Config:
    """Return a member's configuration; `changes` are librdkafka's properties with underscores for dots.

    Where the brokers grant the heartbeats that it needs, the group rebalances by KIP-848: only partitions that move
    stop, for about `HEARTBEAT_MS`. By the classic protocol all stop until every member has had a heartbeat, a fifth of
    the session timeout. Members of both may share a group. Raises `NoBrokerError` if no broker answers.
    """
    config = consumer_config(settings, group, **changes)
    try:
        retry_brokers(lambda: _request_times(settings, group))
    except KafkaException as error:
        if is_retriable(error.args[0]):
            raise NoBrokerError(f"the group {group} cannot be configured: {error.args[0].str()}") from error
        log.info("%s rebalances by the classic protocol: %s", group, error.args[0].str())
        return config
    return {name: value for name, value in config.items() if name not in _CLASSIC_ONLY} | {"group.protocol": "consumer"}


def is_spare(settings: Settings, group: str, member: str | None) -> bool:
    """Say whether a member without partitions will get none for now: the group has it, and is balanced."""
    # made for each question: it is asked until there are partitions, and while there are none to spare
    admin = AdminClient(common_config(settings))
    try:
        described = admin.describe_consumer_groups([group], request_timeout=ASK_TIMEOUT_S)[group].result()
    except KafkaException:
        return False
    return described.state == ConsumerGroupState.STABLE and any(one.member_id == member for one in described.members)


def _request_times(settings: Settings, group: str) -> None:
    times = {"heartbeat.interval.ms": HEARTBEAT_MS, "session.timeout.ms": settings.session_timeout_s * 1000}
    entries = [
        ConfigEntry(f"consumer.{name}", str(value), incremental_operation=AlterConfigOpType.SET)
        for name, value in times.items()
    ]
    resource = ConfigResource(ResourceType.GROUP, group, incremental_configs=entries)
    admin = AdminClient(common_config(settings))
    admin.incremental_alter_configs([resource], request_timeout=ASK_TIMEOUT_S)[resource].result()
