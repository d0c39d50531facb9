"""Topics with listens, duplicates and bad messages in them, and a live state folded from them."""

import asyncio

from botify.core.kafka.admin import describe_topic, end_offsets
from botify.core.kafka.config import key_of
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
from tests.support import make_listens, produce_raw, read_partition

USERS, TRACKS = 300, 500
BAD_VALUE = b"\xffnot avro"


def listens(count: int, first: int = 0) -> list[Listen]:
    return make_listens(count, USERS, TRACKS, seed=1, first=first)


def write_listens(settings: Settings, count: int, *, first: int = 0, bad_every: int = 0, twice_every: int = 0) -> None:
    """Append listens; every so-manieth is followed by a copy of itself, or by rubbish."""
    codec, records = Codec(), list[tuple[bytes | None, bytes | None]]()
    for at, listen in enumerate(listens(count, first), start=1):
        key = key_of(listen.user)
        records += [(key, codec.encode(listen))] * (2 if twice_every and at % twice_every == 0 else 1)
        if bad_every and at % bad_every == 0:
            records.append((key, BAD_VALUE))
    produce_raw(settings, Topics.of(settings).listens.name, records)


def fold_live(settings: Settings, *, emit: bool = False) -> None:
    """Do what a worker does, in this process: claim each partition and fold it from its checkpoint to the end."""
    asyncio.run(_fold_live(settings, emit))


async def _fold_live(settings: Settings, emit: bool) -> None:
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
        claimed = WorkerPartition(partition, claim, start, store, intake, publisher, WorkerCounters(), training=False)
        if records := read_partition(settings, topic, partition, start, end):
            await claimed.process(records)
    if isinstance(publisher, KafkaPublisher):
        publisher.close()
    catalogue.close()
    await redis.aclose()
