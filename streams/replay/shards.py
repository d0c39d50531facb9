"""The training batches, copied into the topic of another number of shards."""

from __future__ import annotations

from collections.abc import Callable

from confluent_kafka.admin import AdminClient

from core.errors import DecodeError
from core.kafka.admin import TIMEOUT_S, end_offsets
from core.kafka.config import common_config
from core.kafka.publisher import RecordPublisher
from core.kafka.reader import TopicReader
from core.settings import Settings
from schemas.codec import Codec
from schemas.events import TrainingBatch
from schemas.registry import codec_of
from schemas.topics import MAX_MODEL_BYTES, Topics, create_training, worker_group_of
from streams.replay.sources import ReplayError
from streams.worker.partition import send_training

BATCH = 64
"""A record may have 12,000 listens."""

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
    total = sum(end_offsets(settings, before).values())
    for partition in range(settings.learner_shards):
        reader = TopicReader(settings, before, partitions=[partition], batch=BATCH)
        try:
            for messages in reader.read_to_end():
                for message in messages:
                    try:
                        batch = codec.decode(message.value(), TrainingBatch)
                    except DecodeError:
                        continue  # a dead letter, of which nothing is learned
                    if batch.next_offset > copied.get((batch.source_topic_id, batch.source_partition), -1):
                        send_training(publisher, topic, shards, batch, message.value())
                progress(len(messages), total)
                publisher.poll()
        finally:
            reader.close()
    publisher.flush()
    return new


def require_no_workers(settings: Settings) -> None:
    """Refuse to swap while workers send batches to the topic of before.

    Raises
    ------
    ReplayError
    """
    group = worker_group_of(settings)
    (asked,) = AdminClient(common_config(settings)).describe_consumer_groups([group]).values()
    if members := len(asked.result(TIMEOUT_S).members):
        raise ReplayError(
            f"{members} workers of {group} still send batches to {Topics.of(settings).training.name}; stop them. If "
            "they were killed, wait for their session timeout"
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
