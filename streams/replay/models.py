"""Models retrained from the training topic: compared with the learner's, or made live in their place.

A learner's state is a fold of the training topic without the listens that are dead letters. A learner that has learned
from a listen before it was excluded has that in its models; they are rebuilt without it from the topic's first record.

For another number of shards, models are rebuilt from a copy of the training batches in the topic of that number.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, closing
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from confluent_kafka import ConsumerGroupState, KafkaException, Message
from confluent_kafka.admin import AdminClient

from botify.core.errors import DecodeError, TopicError
from botify.core.kafka.admin import TIMEOUT_S, TopicState, describe_topic, end_offsets
from botify.core.kafka.column_fetch import ColumnLog
from botify.core.kafka.config import common_config
from botify.core.kafka.publisher import RecordPublisher
from botify.core.kafka.reader import TopicReader
from botify.core.settings import Settings
from botify.schemas.codec import Codec
from botify.schemas.events import Model, TrainingBatch
from botify.schemas.models import publish_models
from botify.schemas.registry import codec_of
from botify.schemas.topics import MAX_MODEL_BYTES, Topics, create_training, learner_group_of, worker_group_of
from botify.streams.learner.partition import LEARNER, SNAPSHOTS, Learned, LearnerPartition, LearnerSources, read_learned
from botify.streams.replay.sources import ReplayError
from botify.streams.replay.swap import former_and_live, swap_pointer
from botify.streams.store.connect import connect_async
from botify.streams.store.keys import learner_prefix
from botify.streams.store.namespaces import NamespaceRecord, NamespaceRecords, excluded_since, live_namespace
from botify.streams.store.protocol import ClaimLostError, MemoryStore, Outcome, offset_to_start_at
from botify.streams.store.redis_store import RedisStore
from botify.streams.worker.metrics import LearnerCounters
from botify.streams.worker.partition import NullPublisher, send_training

BATCH = 64  # a record may hold 12,000 listens

Progress = Callable[[int, int], None]
"""Told how many records were learned from since the last call, and how many there are."""


@dataclass(frozen=True, slots=True)
class Relearned:
    """Retrained models, compared with the learner's."""

    next_offset: int  # sum of the shards' checkpoints; the end of a partition counts where there is none
    listens: int  # number of listens learned from
    missed: int  # offsets of the listens topic that no batch contains
    # models, live: the last snapshot of each model and shard, retrained and in Redis
    models: Mapping[str, Model]
    live: Mapping[str, Model]
    equals_live: bool | None  # whether the whole state is equal, byte for byte; None if the learner has none
    excluded_since: int  # listens excluded since the learner's namespace was begun, which may explain a difference
    seconds: float


async def relearn(settings: Settings, progress: Progress = lambda records, total: None) -> Relearned:
    """Learn in memory up to the learner's checkpoint; nothing is written, and learners may run.

    Raises `ReplayError` if the learner's state is of another topic, or the topic's first records are gone.
    """
    started_s, store, counters = time.monotonic(), MemoryStore(), LearnerCounters()
    async with _open(settings) as opened:
        live = await live_namespace(opened.redis, opened.prefix)
        learned = {shard: await read_learned(opened.redis, live, shard) for shard in opened.state.end}
        record = await opened.records.find(live)
        await asyncio.to_thread(opened.sources.refresh)  # after the state: it is without letters of before
        end = {shard: _end(opened.topic, opened.state, shard, found) for shard, found in learned.items()}
        for shard in end:
            claim = replace(await store.claim(shard, "offline", ""), letters=learned[shard].letters)
            partition = opened.sources.open(shard, claim, 0, store, NullPublisher(), counters)
            async with aclosing(ColumnLog(settings, opened.topic, shard, 0)) as log:
                await learn(partition, log, end[shard], lambda records: progress(records, sum(end.values())))
    equal = [
        (store.hashes[shard, LEARNER], store.hashes[shard, SNAPSHOTS]) == (found.state, found.snapshots)
        for shard, found in learned.items()
        if found.state
    ]
    return Relearned(
        next_offset=sum(end.values()),
        listens=counters.listens,
        missed=counters.missed,
        models=_decoded(opened.codec, *(store.hashes[shard, SNAPSHOTS] for shard in end)),
        live=_decoded(opened.codec, *(found.snapshots for found in learned.values())),
        equals_live=all(equal) if equal else None,
        excluded_since=sum(excluded_since(record, opened.sources.excluded).values()),
        seconds=time.monotonic() - started_s,
    )


def _end(topic: str, state: TopicState, shard: int, learned: Learned) -> int:
    if state.start[shard] > 0:
        raise ReplayError(
            f"the first {state.start[shard]:,} records of {topic} are gone; models cannot be retrained from offset 0"
        )
    if learned.next_offset is None:
        return state.end[shard]
    if learned.topic_id != state.topic_id:
        raise ReplayError(
            f"{topic} was deleted and recreated (id {state.topic_id}; the learner's state is of {learned.topic_id})"
        )
    return learned.next_offset


def _decoded(codec: Codec, *snapshots: Mapping[bytes, bytes]) -> dict[str, Model]:
    found = {name.decode(): record for of_shard in snapshots for name, record in of_shard.items()}
    return {name: codec.decode(record, Model) for name, record in sorted(found.items())}


async def learn(
    partition: LearnerPartition, log: ColumnLog, end: int, progress: Callable[[int], None] = lambda records: None
) -> Outcome:
    """Learn from the log up to an offset (exclusive), and write the state; raises `ClaimLostError`.

    Returns FENCED or ROLLED_BACK if another process has claimed the partition, or its state is outdated.
    """
    async with aclosing(log.read_ahead(end)) as batches:
        async for batch in batches:
            if (outcome := await partition.process(batch)).lost:
                return outcome
            progress(len(batch))
    return await partition.write()


@dataclass(frozen=True, slots=True)
class Swapped:
    """The result of a swap of models."""

    # namespace, former: the live namespace, and the one before
    namespace: str
    former: str
    models: Sequence[Model]  # the published snapshots


async def rebuild(settings: Settings, progress: Progress = lambda records, total: None) -> NamespaceRecord:
    """Learn from the whole training topic into a new namespace; nothing is published, and learners may run.

    Raises `ReplayError` if the topic's first records are gone.
    """
    async with _open(settings) as rebuilding:
        end = rebuilding.state.end
        record = await rebuilding.records.begin(
            "m", start=dict.fromkeys(end, 0), end=end, projections=(), excluded=dict(rebuilding.sources.excluded)
        )
        return await rebuilding.learn(record, progress)


async def swap_models(settings: Settings, id_: str, progress: Progress = lambda records, total: None) -> Swapped:
    """Let rebuilt models catch up with the topic, publish them, and make their namespace the live one.

    Recommenders serve the newest record of each model, so these are served at once. A running learner follows within a
    second, and publishes them again, in case it has published its own meanwhile. Raises `ReplayError` if they are live
    already, listens were excluded since they were begun, or another swap came first.
    """
    async with _open(settings) as rebuilding:
        record = await rebuilding.records.get(id_)
        live = await live_namespace(rebuilding.redis, rebuilding.prefix)
        if record.namespace == live:
            raise ReplayError(f"the models of {record.id} are live already")
        if more := sum(excluded_since(record, rebuilding.sources.excluded).values()):
            raise ReplayError(
                f"{more:,} listens were excluded since {record.id} was begun, and its models may have learned from "
                "them; rebuild them: `botify verify --models --rebuild`"
            )
        await rebuilding.learn(record, progress)
        return await rebuilding.go_live(live, record.namespace)


async def rollback_models(settings: Settings) -> Swapped:
    """Publish the former models and make their namespace live again; the learner lets them catch up.

    Raises `ReplayError` if there are none, or another swap came first.
    """
    async with _open(settings) as rebuilding:
        former, live = await former_and_live(rebuilding.redis, rebuilding.prefix)
        return await rebuilding.go_live(live, former, back=True)


@dataclass(frozen=True, slots=True)
class _Rebuilding:
    settings: Settings
    codec: Codec
    redis: Any
    sources: LearnerSources
    state: TopicState
    records: NamespaceRecords

    @property
    def prefix(self) -> str:
        return learner_prefix(self.settings.topic_prefix)

    @property
    def topic(self) -> str:
        return Topics.of(self.settings).training.name

    async def learn(self, record: NamespaceRecord, progress: Progress) -> NamespaceRecord:
        """Learn up to the topic's end at the start of this process, from the namespace's checkpoints."""
        total = sum(self.state.end.values())
        store = RedisStore(self.redis, record.namespace, letters=lambda: self.sources.letters)
        for shard, end in self.state.end.items():
            claim = await store.claim(shard, f"rebuild-{uuid.uuid4().hex}", self.state.topic_id)
            start = offset_to_start_at(shard, claim, self.state, rebuild_missing=True)
            learning = self.sources.open(shard, claim, start, store, NullPublisher(), LearnerCounters())
            progress(start, total)
            async with aclosing(ColumnLog(self.settings, self.topic, shard, start)) as log:
                try:
                    outcome = await learn(learning, log, end, lambda records: progress(records, total))
                except ClaimLostError as lost:
                    outcome = lost.outcome
            if outcome.lost:
                raise ReplayError(
                    f"{record.namespace} was claimed by another process, or Redis lost writes to it ({outcome.name}); "
                    "rebuild the models: `botify verify --models --rebuild`"
                )
        done = record.with_(done=True)
        await self.records.put(done)
        return done

    async def go_live(self, live: str, new: str, *, back: bool = False) -> Swapped:
        """Publish, then move the pointer: a learner that follows at once publishes later models."""
        learned = [await read_learned(self.redis, new, shard) for shard in self.state.end]
        if any(of_shard.topic_id not in (None, self.state.topic_id) for of_shard in learned):
            raise ReplayError(
                f"the models of {new} are of another training topic, of another number of shards: learners of "
                f"BOTIFY_LEARNER_SHARDS={self.settings.learner_shards} cannot continue them. `botify verify --models "
                "--rebuild --shards` goes back to that number"
            )
        models = list(_decoded(self.codec, *(of_shard.snapshots for of_shard in learned)).values())
        await asyncio.to_thread(publish_models, self.settings, self.codec, models)
        await swap_pointer(self.redis, self.prefix, live, new, back=back)
        return Swapped(new, live, models)


@asynccontextmanager
async def _open(settings: Settings) -> AsyncIterator[_Rebuilding]:
    codec, topic = codec_of(settings), Topics.of(settings).training.name
    state = await asyncio.to_thread(describe_topic, settings, topic, learner_group_of(settings))
    async with aclosing(connect_async(settings)) as redis:
        with closing(await asyncio.to_thread(LearnerSources, settings, codec)) as sources:
            records = NamespaceRecords(redis, learner_prefix(settings.topic_prefix))
            yield _Rebuilding(settings, codec, redis, sources, state, records)


_WITHOUT_MEMBERS = (ConsumerGroupState.EMPTY, ConsumerGroupState.DEAD)


def copy_training(settings: Settings, shards: int, progress: Callable[[int, int], None]) -> Settings:
    """Copy the batches that the topic of another number of shards lacks, and return the settings with that number.

    The batches of a partition of the listens keep their order. At least once: a learner drops copies by their offsets.
    It can be interrupted and run again, and continues after what is copied. Raises `ReplayError` for the present
    number, `TopicError` if there are too many shards or a topic does not fit, and `PublishError`.
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
    with closing(TopicReader(settings, before, batch=BATCH, auto_offset_reset="error")) as reader:
        for messages in reader.read_to_end(ends):
            for value, batch in _batches(codec, messages):
                if batch.next_offset > copied.get((batch.source_topic_id, batch.source_partition), -1):
                    send_training(publisher, topic, shards, batch, value)
            progress(len(messages), sum(ends.values()))
            publisher.poll()
    publisher.flush()
    return new


def require_no_workers(settings: Settings) -> None:
    """Raise `ReplayError` while workers send batches to the former topic, and `TopicError` if Kafka does not tell."""
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


def _copied(settings: Settings, codec: Codec) -> dict[tuple[str, int], int]:
    found: dict[tuple[str, int], int] = {}
    with closing(TopicReader(settings, Topics.of(settings).training.name, batch=BATCH)) as reader:
        for _, batch in _batches(codec, chain.from_iterable(reader.read_to_end())):
            source = batch.source_topic_id, batch.source_partition
            found[source] = max(found.get(source, 0), batch.next_offset)
    return found


def _batches(codec: Codec, messages: Iterable[Message]) -> Iterator[tuple[bytes, TrainingBatch]]:
    """Yield records and their batches, without dead letters, of which nothing is learned."""
    for message in messages:
        value = message.value() or b""
        try:
            batch = codec.decode(value, TrainingBatch)
        except DecodeError:
            continue
        yield value, batch
