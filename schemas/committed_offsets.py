"""What a consumer group has committed, asked without joining it.

`AdminClient.list_consumer_group_offsets` asks the same, and ends the process with a segmentation fault where the
group's coordinator is not ready (librdkafka 2.16: `rd_kafka_handle_OffsetFetch` hands the error to a group that an
admin client does not have). A consumer that never subscribes has one.
"""

from __future__ import annotations

from collections.abc import Iterable

from confluent_kafka import Consumer, TopicPartition

from schemas import clients
from schemas.settings import Settings


def committed_offsets(
    settings: Settings, group: str, partitions: Iterable[tuple[str, int]], timeout_s: float
) -> dict[tuple[str, int], int]:
    """Return the committed offset of each (topic, partition) that has one.

    Raises
    ------
    KafkaException
        The brokers do not say.
    """
    consumer = Consumer(clients.consumer_config(settings, group))
    try:
        asked = [TopicPartition(topic, partition) for topic, partition in partitions]
        found = consumer.committed(asked, timeout=timeout_s) if asked else []
    finally:
        consumer.close()
    return {(at.topic, at.partition): at.offset for at in found if at.error is None and at.offset >= 0}
