"""One partition of the training topic: decode and validate, learn, publish snapshots, write checkpoints."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from confluent_kafka.admin import AdminClient
from numpy.typing import NDArray

from botify.core.errors import RejectedMessageError
from botify.core.kafka.admin import read_topic_id
from botify.core.kafka.config import common_config
from botify.core.kafka.layout import listens_topic, read_phases
from botify.core.settings import Settings
from botify.schemas.catalogue import CatalogueReader
from botify.schemas.codec import Codec
from botify.schemas.dead_letters import Letters, RejectedBefore
from botify.schemas.events import Model, Track, TrainingBatch
from botify.schemas.models import learned_body_bytes
from botify.schemas.topics import Topics
from botify.schemas.track_table import TrackTable
from botify.schemas.training import Shard, TrainingColumns, listens_of, shard_of
from botify.schemas.validation import Intake, Rejected, decode_and_validate
from botify.streams.folds.projection import Changes
from botify.streams.learner.learner import SNAPSHOT_BYTES_PER_S, Evictions, Learner, OutdatedStateError
from botify.streams.store.keys import checkpoint_key, partition_key
from botify.streams.store.protocol import Claim, ClaimLostError, Outcome, Store
from botify.streams.store.redis_store import letters_of
from botify.streams.worker.metrics import LearnerCounters
from botify.streams.worker.partition import ClaimedPartition, Publisher

log = logging.getLogger(__name__)


class LearnerSources:
    """What the learner reads in addition to the training topic; blocking."""

    def __init__(self, settings: Settings, codec: Codec) -> None:
        topics = Topics.of(settings)
        self._reader = CatalogueReader(settings, codec)
        self._reader.refresh()
        self._rejected = RejectedBefore(settings, topics.training.name)
        self._settings = settings
        self._listens: dict[str, RejectedBefore] = {}
        self._topic_ids: dict[str, str] = {}
        self._begun: dict[int, Letters | None] = {}
        # (topic id, partition) -> ascending offsets of listens that are dead letters: older batches still contain them
        self.left_out: dict[tuple[str, int], NDArray[np.int64]] = {}
        self.excluded: dict[int, int] = {}  # partition -> listens that operators have excluded
        self.letters: Letters = {}  # see `Claim.letters`
        self.catalogue: Mapping[int, Track] = self._reader.tracks  # grows
        self.intake = Intake(codec, self._reader.tracks, self._reader.refresh, self._rejected.offsets)
        self.refresh()

    def refresh(self) -> None:
        """Read which records and listens became dead letters since the last call."""
        self._rejected.refresh()
        self.letters = self._rejected.reached  # the others have read as far in a moment
        admin = AdminClient(common_config(self._settings))
        layouts = read_phases(self._settings, admin)
        sources = [listens_topic(self._settings.topic_prefix, layout) for layout in layouts]
        for topic in (*sources, Topics.of(self._settings).feedback.name):
            if topic not in self._listens:
                begun = lambda p: self._begun.get(shard_of(p, self._settings.learner_shards))  # noqa: E731 - of its shard
                self._listens[topic] = RejectedBefore(self._settings, topic, begun=begun)
            self._listens[topic].refresh()
            if self._listens[topic].offsets:
                self._topic_ids[topic] = read_topic_id(admin, topic)  # batches of an earlier topic have other offsets
                self._leave_out(topic)
        counts: Counter[int] = Counter()
        for listens in self._listens.values():
            counts.update(listens.excluded)
        self.excluded.update(counts)

    def _leave_out(self, topic: str) -> None:
        for partition, offsets in self._listens[topic].offsets.items():
            self.left_out[self._topic_ids[topic], partition] = np.sort(np.fromiter(offsets, np.int64, len(offsets)))

    def open(
        self, partition: int, claim: Claim, start: int, store: Store, publisher: Publisher, counters: LearnerCounters
    ) -> LearnerPartition:
        """Return a claimed partition of the training topic. Blocks."""
        self._begun[partition] = claim.letters
        for topic in self._topic_ids:
            for of_listens in list(self._listens[topic].offsets):
                self._listens[topic].count(of_listens)
            self._leave_out(topic)
        opening = (partition, claim, start, store, self.intake, publisher, counters, self.catalogue, self.left_out)
        most_bytes, shards = learned_body_bytes(self._settings), self._settings.learner_shards
        return LearnerPartition(*opening, self._settings.snapshot_listens, most_bytes, shards)

    def close(self) -> None:
        self._reader.close()
        self._rejected.close()
        for listens in self._listens.values():
            listens.close()


LEARNER = "learner"  # the collection that holds the fields of `Learner.state`
SNAPSHOTS = "snapshots"
"""The collection that holds the last snapshot of each model up to the checkpoint, as it was sent to the topic."""

CHECKPOINT_LISTENS = 500_000
"""The state is written after this number of listens, in a pause, or after `MOST_PUT_OFF` ticks.

Writing takes up to a second of CPU time. After a crash, so many listens are learned from again, in ten seconds.
"""
TICK_S = 0.5
PAUSE_TICKS = 4  # the topic pauses when no record has arrived for this time
MOST_PUT_OFF = 119
RELEASE_LISTENS = 50
"""Listens after which pages of the catalogue are given back; a track that is met for the first time takes up to ten."""


class LearnerPartition(ClaimedPartition):
    """Learns from batches of records, starting at the claimed offset.

    Delivery to the store is exactly once, to the models topic at least once; a duplicate has the same version and
    bytes. What is learned does not depend on when the state is written.
    """

    def __init__(
        self,
        partition: int,
        claim: Claim,
        start: int,
        store: Store,
        intake: Intake,
        publisher: Publisher,
        counters: LearnerCounters,
        catalogue: Mapping[int, Track],
        left_out: Mapping[tuple[str, int], NDArray[np.int64]] = MappingProxyType({}),
        snapshot_listens: int | None = None,
        most_bytes: int | None = None,
        shards: int = 1,
    ) -> None:
        super().__init__(partition, claim, start, store, intake, publisher)
        self._counters = counters
        self._catalogue = catalogue
        self._left_out = left_out
        shard = Shard(partition, shards)
        bounds = {"snapshot_listens": snapshot_listens, "most_bytes": most_bytes}
        self._options: Any = {**bounds, "shard": shard, "watch": counters.drift.update}
        self._learner = Learner(catalogue, **self._options)
        self._loaded = False
        self._unwritten_listens = 0
        self._unwritten_snapshots: dict[bytes, bytes | None] = {}
        self._seen_offset = start
        self._put_off = self._paused = self._wait = 0  # ticks
        self._gone: Iterable[bytes] = ()
        self._released_at = 0

    @property
    def checkpoint(self) -> int:
        return self._position.checkpoint or 0

    async def process(self, records: Sequence[Any]) -> Outcome:
        """Learn from a batch, and write the state after `CHECKPOINT_LISTENS` listens."""
        outcome = Outcome.ALREADY
        try:
            if not await self._load():
                return Outcome.ROLLED_BACK
            records = [record for record in records if record.offset >= self.next_offset]
            read = decode_and_validate(
                records, TrainingBatch, self._intake, validate=self._listens_of, tracks_of=tracks_of
            )
            for record, taken in read:
                if isinstance(taken, RejectedMessageError):
                    await self._publisher.emit((), [Rejected(record, taken)])
                    self._counters.rejected[type(taken).__name__] += 1
                    due = False
                else:
                    due = self._add(record, *taken)
                if due or record is records[-1]:
                    await self._learn()
                    self.next_offset = record.offset + 1
                    if self._unwritten_listens >= CHECKPOINT_LISTENS:
                        outcome = await self.write()
        except ClaimLostError as lost:
            return self._counters.count(lost.outcome)
        return outcome

    async def write_checkpoint(self) -> Outcome:
        """Each `TICK_S`; in a pause of the topic, publish what has no snapshot, and write a state that has changed."""
        self._paused = self._paused + 1 if self.next_offset == self._seen_offset else 0
        self._seen_offset, self._wait = self.next_offset, max(self._wait - 1, 0)
        if self._paused < PAUSE_TICKS and self._put_off < MOST_PUT_OFF:
            self._put_off += 1
            return Outcome.ALREADY
        try:
            if not await self._load():
                return Outcome.ROLLED_BACK
            if self._paused >= PAUSE_TICKS and not self._wait:
                await self._publish_newest()
            return await self.write()
        except ClaimLostError as lost:
            return self._counters.count(lost.outcome)

    async def write(self) -> Outcome:
        """Write the state if it has changed; raises `ClaimLostError`."""
        if self.next_offset == self.checkpoint:
            return Outcome.ALREADY
        return await self._write_at(self.next_offset)

    async def _load(self) -> bool:
        if self._loaded:
            return True
        (fields,) = (await self._store.read_whole(self.partition, [LEARNER], [], self._position))[0].values()
        try:
            if fields:
                self._learner = Learner.restore(fields, self._catalogue, **self._options)
        except OutdatedStateError as outdated:
            log.warning("%s: retraining from offset 0", outdated)
            self._gone = fields
            if self.checkpoint:  # else another version has just done so: an apply at its own offset writes nothing
                await self._write_at(0)
                return False
        self._loaded = True
        return True

    async def _write_at(self, offset: int) -> Outcome:
        state = {**dict.fromkeys(self._gone), **self._learner.state()}
        outcome = await self._apply(offset, Changes(hashes={LEARNER: state, SNAPSHOTS: self._unwritten_snapshots}))
        if outcome.lost:
            raise ClaimLostError(outcome)
        self._unwritten_listens, self._unwritten_snapshots, self._put_off, self._gone = 0, {}, 0, ()
        return outcome

    def _add(self, record: Any, batch: TrainingBatch, listens: TrainingColumns) -> bool:
        """Hand a batch to the learner, and say whether it must learn before the next."""
        before = self._learner.missed
        due = self._learner.add(batch, listens, record.timestamp)
        self._counters.batches += 1
        if missed := self._learner.missed - before:
            self._counters.missed += missed
            log.error(
                "%d listens before offset %d of partition %d are not in the training topic: BOTIFY_TRAINING was "
                "off, or a replay has folded them; the models do not include them",
                missed,
                batch.first_offset,
                batch.source_partition,
            )
        return due

    async def _learn(self) -> None:
        for learned in self._learner.learn():
            self._unwritten_listens += learned
            self._counters.listens += learned
            await asyncio.sleep(0)  # it may take long, and a stop or a heartbeat must not wait for it
        self._release()
        self._note(self._learner.take_evictions())
        if models := self._learner.take_models():
            await self._publish(models)
            encoded = {model.name.encode(): self._intake.codec.encode(model) for model in models}
            self._unwritten_snapshots.update(encoded)

    def _release(self) -> None:
        """Give back the catalogue's pages: the models know the tracks that they met, and do not read them again."""
        if isinstance(self._catalogue, TrackTable) and self._counters.listens >= self._released_at + RELEASE_LISTENS:
            self._released_at = self._counters.listens
            self._catalogue.release()

    def _listens_of(self, batch: TrainingBatch, raw: bytes) -> tuple[TrainingBatch, TrainingColumns]:
        return batch, listens_of(batch, raw, self._left_out.get((batch.source_topic_id, batch.source_partition)))

    def _note(self, evicted: Evictions) -> None:
        self._counters.forgotten.update(evicted.forgotten)
        self._counters.too_large.update(evicted.too_large)
        self._counters.cut.update(evicted.cut)
        for name, tracks in evicted.forgotten.items():
            log.warning("%s dropped %d tracks: a larger snapshot exceeds BOTIFY_MODEL_MB", name, tracks)
        for name in evicted.too_large:
            log.error("%s is larger than BOTIFY_MODEL_MB allows: recommenders keep its last snapshot", name)

    async def _publish_newest(self) -> None:
        models = []
        for model in self._learner.newest():
            models.append(model)
            await asyncio.sleep(0)
        if models:
            await self._publish(models)
            self._wait = int(sum(len(model.body) for model in models) / SNAPSHOT_BYTES_PER_S / TICK_S)

    async def _publish(self, models: Sequence[Model]) -> None:
        # A fenced learner must not publish older snapshots over the newer ones of its successor.
        await self._store.read_fields(self.partition, {}, self._position)
        await self._publisher.emit(models, ())
        self._counters.snapshots += len(models)
        self._counters.snapshot_bytes.update({model.name: len(model.body) for model in models})
        log.info("published %s", ", ".join(f"{model.name} {model.version} {model.digest[:12]}" for model in models))


def tracks_of(taken: tuple[TrainingBatch, TrainingColumns]) -> list[int]:
    """Return the tracks that a batch's listens are of, which must be in the catalogue."""
    return sorted(set(taken[1].listens().tracks.tolist()))  # any that was shown may be unknown


@dataclass(frozen=True, slots=True)
class Learned:
    """A learner's state at its checkpoint."""

    next_offset: int | None  # next offset of the training topic; None if no learner has written a checkpoint
    topic_id: str | None  # id of the topic that it has learned from
    state: Mapping[bytes, bytes]  # see `Learner.state`
    snapshots: Mapping[bytes, bytes]  # as on the models topic
    letters: Letters | None  # see `Claim.letters`


async def read_learned(redis: Any, namespace: str, shard: int = 0) -> Learned:
    """Read the checkpoint of a shard, a partition of the training topic, in one transaction."""
    async with redis.pipeline(transaction=True) as pipeline:
        pipeline.hmget(checkpoint_key(namespace, shard), ["next_offset", "topic_id", "letters"])
        for collection in (LEARNER, SNAPSHOTS):
            pipeline.hgetall(partition_key(namespace, shard, collection))
        (next_offset, topic_id, letters), state, snapshots = await pipeline.execute()
    return Learned(
        None if next_offset is None else int(next_offset),
        None if topic_id is None else topic_id.decode(),
        state,
        snapshots,
        letters_of(letters),
    )
