"""The training batches, copied into the topic of another number of shards."""

from __future__ import annotations

from collections.abc import Callable

from confluent_kafka import ConsumerGroupState, KafkaException
from confluent_kafka.admin import AdminClient

from botify.core.errors import DecodeError, TopicError
from botify.core.kafka.admin import TIMEOUT_S, end_offsets
from botify.core.kafka.config import common_config
from botify.core.kafka.publisher import RecordPublisher
from botify.core.kafka.reader import PartitionLog, TopicReader
from botify.core.settings import Settings
from botify.schemas.codec import Codec
from botify.schemas.events import TrainingBatch
from botify.schemas.registry import codec_of
from botify.schemas.topics import MAX_MODEL_BYTES, Topics, create_training, worker_group_of
from botify.streams.replay.sources import ReplayError
from botify.streams.worker.partition import send_training

BATCH = 64
"""A record may have 12,000 listens."""

_WITHOUT_MEMBERS = (ConsumerGroupState.EMPTY, ConsumerGroupState.DEAD)

Sources = dict[tuple[str, int], int]
"""(topic id, partition) of the listens -> next offset."""


def copy_training(settings: Settings, shards: int, progress: Callable[[int, int], None]) -> Settings:
    """Copy the batches that the topic of so many shards lacks, and return the settings with that number.

    The batches of a partition of the listens keep their order. At least once: a learner drops copies by their offsets.
    It can be interrupted and run again, and continues behind what is copied.

    Raises
    ------
    ReplayError
        The models have so many shards already.
    TopicError
        There are too many, the topic has other partitions, or a topic cannot be read or created.
    PublishError
        A record was not delivered.
    """
    if shards == settings.learner_shards:
        raise ReplayError(f"BOTIFY_LEARNER_SHARDS is {shards} already, and --shards is for another number")
    new = settings.with_(learner_shards=shards)
    create_training(new)
    codec, topic = codec_of(settings), Topics.of(new).training.name
    copied = _copied(new, codec)
    publisher = RecordPublisher(settings, linger_ms=20, message_max_bytes=MAX_MODEL_BYTES)
    before = Topics.of(settings).training.name
    ends = end_offsets(settings, before)
    for partition, end in sorted(ends.items()):
        log = PartitionLog(settings, before, partition, 0, BATCH)
        try:
            for records in log.read_to(end):
                for record in records:
                    value = record.value or b""
                    try:
                        batch = codec.decode(value, TrainingBatch)
                    except DecodeError:
                        continue  # a dead letter, of which nothing is learned
                    if batch.next_offset > copied.get((batch.source_topic_id, batch.source_partition), -1):
                        send_training(publisher, topic, shards, batch, value)
                progress(len(records), sum(ends.values()))
                publisher.poll()
        finally:
            log.close()
    publisher.flush()
    return new


def require_no_workers(settings: Settings) -> None:
    """Refuse to swap while workers send batches to the topic of before.

    Raises
    ------
    ReplayError
        There are some.
    TopicError
        Kafka does not tell.
    """
    group, admin = worker_group_of(settings), AdminClient(common_config(settings))
    try:
        groups = admin.list_consumer_groups(request_timeout=TIMEOUT_S).result(TIMEOUT_S).valid
    except (KafkaException, TimeoutError) as error:
        raise TopicError(f"Kafka does not tell whether {group} has workers ({error!r})") from error
    if any(one.group_id == group and one.state not in _WITHOUT_MEMBERS for one in groups):
        raise ReplayError(
            f"workers of {group} still send batches to {Topics.of(settings).training.name}; stop them. If they were "
            "killed, wait for their session timeout"
        )


def _copied(settings: Settings, codec: Codec) -> Sources:
    """Return up to where each partition of the listens is in the topic."""
    found: Sources = {}
    reader = TopicReader(settings, Topics.of(settings).training.name, batch=BATCH)
    try:
        for messages in reader.read_to_end():
            for message in messages:
                try:
                    batch = codec.decode(message.value(), TrainingBatch)
                except DecodeError:
                    continue
                source = batch.source_topic_id, batch.source_partition
                found[source] = max(found.get(source, 0), batch.next_offset)
    finally:
        reader.close()
    return found
