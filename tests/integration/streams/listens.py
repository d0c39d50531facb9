"""Topics with listens, duplicates and bad messages in them, and a live state folded from them."""

import asyncio
from collections.abc import Iterator

import numpy as np
from confluent_kafka import Producer

from botify.core.kafka.admin import describe_topic, end_offsets
from botify.core.kafka.config import key_of, partition_of, producer_config
from botify.core.settings import Settings
from botify.schemas.catalogue import CatalogueReader
from botify.schemas.codec import Codec
from botify.schemas.event_time import Lead
from botify.schemas.events import Listen
from botify.schemas.topics import Topics, worker_group_of
from botify.schemas.validation import Intake
from botify.streams.store.connect import connect_async
from botify.streams.store.namespaces import live_namespace
from botify.streams.store.redis_store import RedisStore
from botify.streams.worker.metrics import WorkerCounters
from botify.streams.worker.partition import KafkaPublisher, NullPublisher, WorkerPartition
from tests.support import read_partition

USERS, TRACKS = 300, 500
BASE_MS = 1_700_000_000_000
BAD_VALUE = b"\xffnot avro"


def listens(count: int, seed: int = 1, first: int = 0, users: int = USERS) -> Iterator[Listen]:
    """Listens of many users in sessions of ten; event time goes on with `first`."""
    rng = np.random.default_rng([seed, first])
    drawn = zip(
        rng.integers(users, size=count).tolist(),
        rng.integers(TRACKS, size=count).tolist(),
        rng.random(count).tolist(),
        strict=True,
    )
    for at, (user, track, fraction) in enumerate(drawn, start=first):
        session = f"s{seed}-{user}-{at // (10 * users)}"
        timestamp_ms = BASE_MS + at * 100
        yield Listen(
            f"{seed}:{at}", user, track, fraction, timestamp_ms, session, 0, at % 13 == 0, None, {}, None, None
        )


def write_listens(
    settings: Settings, count: int, *, seed: int = 1, first: int = 0, bad_every: int = 0, twice_every: int = 0
) -> None:
    """Append listens; every so-manieth is followed by rubbish, or by a copy of itself."""
    codec, topic = Codec(), Topics.of(settings).listens.name
    producer = Producer(producer_config(settings, linger_ms=20))
    for at, listen in enumerate(listens(count, seed, first), start=1):
        partition = partition_of(listen.user, settings.partitions)
        value, key = codec.encode(listen), key_of(listen.user)
        producer.produce(topic, value, key, partition=partition, timestamp=listen.timestamp_ms)
        if twice_every and at % twice_every == 0:
            producer.produce(topic, value, key, partition=partition, timestamp=listen.timestamp_ms)
        if bad_every and at % bad_every == 0:
            producer.produce(topic, BAD_VALUE, key, partition=partition)
        if at % 5000 == 0:
            producer.poll(0)
    assert producer.flush(60) == 0


def fold_live(settings: Settings, *, emit: bool = False, training: bool = False) -> None:
    """Do what a worker does, in this process: claim each partition and fold it from its checkpoint to the end."""
    asyncio.run(_fold_live(settings, emit, training))


async def _fold_live(settings: Settings, emit: bool, training: bool) -> None:
    topic, codec = Topics.of(settings).listens.name, Codec()
    redis, catalogue = connect_async(settings), CatalogueReader(settings, codec)
    catalogue.refresh()
    store = RedisStore(redis, await live_namespace(redis, settings.topic_prefix))
    publisher = KafkaPublisher(settings, codec) if emit else NullPublisher()
    topic_id = describe_topic(settings, topic, worker_group_of(settings)).topic_id
    for partition, end in end_offsets(settings, topic).items():
        claim = await store.claim(partition, "test", topic_id)
        start = claim.next_offset or 0
        intake = Intake(codec, catalogue.tracks, catalogue.refresh, lead=Lead.of(settings))
        claimed = WorkerPartition(
            partition, claim, start, store, intake, publisher, WorkerCounters(), training=training
        )
        if records := read_partition(settings, topic, partition, start, end):
            await claimed.process(records)
    if isinstance(publisher, KafkaPublisher):
        publisher.close()
    catalogue.close()
    await redis.aclose()
