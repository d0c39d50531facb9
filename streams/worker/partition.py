"""One claimed partition: batches in, state in the store, events and dead letters to their topics, in strict order."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from botify.core.errors import PublishError, TopicError
from botify.core.kafka.config import key_of
from botify.core.kafka.publisher import RecordPublisher
from botify.core.settings import Settings
from botify.schemas.codec import Codec
from botify.schemas.dead_letters import dead_letter
from botify.schemas.event_time import EventTime
from botify.schemas.events import Model, Session, TrainingBatch
from botify.schemas.model_parts import ModelPublisher
from botify.schemas.topics import MAX_MODEL_BYTES, Topics
from botify.schemas.training import shard_of, training_batches_of
from botify.schemas.validation import Intake, Rejected, erased_user
from botify.streams.folds.partition import PROJECTIONS, Fold
from botify.streams.folds.popularity import TrackRows
from botify.streams.folds.projection import Changes
from botify.streams.store.protocol import Claim, ClaimLostError, ClaimPosition, Outcome, Store
from botify.streams.worker.folding import Folding, by_listen
from botify.streams.worker.metrics import WorkerCounters

log = logging.getLogger(__name__)

Publishable = Session | TrainingBatch | Model


class Publisher(Protocol):
    """Publishes the events and dead letters of a batch."""

    async def emit(self, events: Sequence[Publishable], rejected: Sequence[Rejected]) -> None:
        """Publish all, and return when it is acknowledged."""


class NullPublisher:
    """Publishes nothing: what a replay's records give rise to was published when they were first folded."""

    async def emit(self, events: Sequence[Publishable], rejected: Sequence[Rejected]) -> None:
        """Do nothing."""


BROKER_AWAY_S = 120.0
"""How long a worker waits for brokers before it stops, as Java's producers: a restart may take a minute."""
ACKNOWLEDGE_TIMEOUT_S = BROKER_AWAY_S + 10.0
"""More than the delivery timeout, so that the error names the record that was not delivered."""


class KafkaPublisher:
    """Publishes in a thread of its own, so that the worker folds other partitions meanwhile.

    What several partitions publish during a flush is sent together after it. At least once: a worker that dies between
    the acknowledgement and the checkpoint publishes again, and readers drop the copies by session id, offsets, model
    version, or the record that a dead letter names. With `only_sessions_to` sessions go to this topic, and all else
    nowhere, because it was published when the records were first folded.
    """

    def __init__(self, settings: Settings, codec: Codec, only_sessions_to: str | None = None) -> None:
        topics = Topics.of(settings)
        self._sessions, self._training = only_sessions_to or topics.sessions.name, topics.training.name
        self._only_sessions = only_sessions_to is not None
        self._shards = settings.learner_shards
        self._dead_letters = topics.dead_letters.name
        self._codec = codec
        # `flush` sends at once; until then the linger gathers records into few requests
        self._publisher = RecordPublisher(
            settings,
            linger_ms=100,
            delivery_timeout_ms=int(BROKER_AWAY_S * 1000),
            message_max_bytes=MAX_MODEL_BYTES,  # the largest
        )
        self._models = ModelPublisher(settings, codec, self._publisher)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="publisher")
        self._waiting: list[tuple[Sequence[Publishable], Sequence[Rejected], asyncio.Future[None]]] = []
        self._sending: asyncio.Task[None] | None = None

    async def emit(self, events: Sequence[Publishable], rejected: Sequence[Rejected]) -> None:
        """Publish, and return when the brokers have acknowledged everything.

        Raises `PublishError` if a record of the flush was refused, or not acknowledged for `ACKNOWLEDGE_TIMEOUT_S`, and
        `TopicError` if the topic of models cannot be read.
        """
        if self._only_sessions:
            events, rejected = [event for event in events if isinstance(event, Session)], ()
            if not events:
                return
        acknowledged: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((events, rejected, acknowledged))
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send_waiting(), name="publisher")
        await acknowledged

    async def begin_models(self) -> None:
        """Publish the next model of each name whole, because others may have published since the last."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._models.begin)

    def close(self) -> None:
        """End the thread; what is not acknowledged is dropped, as no checkpoint includes it."""
        self._publisher.drop()
        self._thread.shutdown()

    async def _send_waiting(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            together, self._waiting = self._waiting, []
            events = [event for some, _, _ in together for event in some]
            rejected = [letter for _, some, _ in together for letter in some]
            error: PublishError | TopicError | None = None
            try:
                await loop.run_in_executor(self._thread, self._send, events, rejected)
            except (PublishError, TopicError) as failed:  # the parts of models are looked up on their topic
                error = failed
            for _, _, acknowledged in together:
                if acknowledged.done():  # its partition was taken away, and its task with it
                    continue
                if error is None:
                    acknowledged.set_result(None)
                else:
                    acknowledged.set_exception(error)

    def _send(self, events: Sequence[Publishable], rejected: Sequence[Rejected]) -> None:
        for event in events:
            if isinstance(event, Model):
                self._models.send(event)
            elif isinstance(event, TrainingBatch):
                send_training(self._publisher, self._training, self._shards, event, self._codec.encode(event))
            else:
                self._publisher.send(self._sessions, self._codec.encode(event), key_of(event.user))
        for letter in rejected:
            record = letter.record
            origin = record.topic, record.partition, record.offset
            written = dead_letter(origin, record.key, record.value, record.headers, letter.reason)
            self._publisher.send(self._dead_letters, **written, partition=record.partition)
        self._publisher.flush(ACKNOWLEDGE_TIMEOUT_S)
        if rejected:
            first = rejected[0].record
            log.warning(
                "%d dead letters, the first: %s",
                len(rejected),
                rejected[0].reason,
                extra={"topic": first.topic, "partition": first.partition, "offset": first.offset},
            )


def send_training(publisher: RecordPublisher, topic: str, shards: int, batch: TrainingBatch, record: bytes) -> None:
    """Send a batch to the shard that learns from its listens."""
    source = batch.source_partition
    publisher.send(topic, record, key_of(source), partition=shard_of(source, shards))


class ClaimedPartition(ABC):
    """A partition under a claim: its position in the store, and `next_offset`, of the record that is processed next."""

    def __init__(
        self, partition: int, claim: Claim, start: int, store: Store, intake: Intake, publisher: Publisher
    ) -> None:
        self.partition, self.next_offset = partition, start
        self._position = ClaimPosition(claim, claim.next_offset)
        self._store, self._intake, self._publisher = store, intake, publisher

    @property
    @abstractmethod
    def checkpoint(self) -> int:
        """The next offset in the store, at which a later claim begins; at most `next_offset`."""

    @abstractmethod
    async def process(self, records: Sequence[Any]) -> Outcome:
        """Process a batch. After FENCED or ROLLED_BACK this object must not be used: its memory is not the store's."""

    @abstractmethod
    async def write_checkpoint(self) -> Outcome:
        """Move the checkpoint to `next_offset`; outcomes as of `process`."""

    async def _apply(self, next_offset: int, changes: Changes) -> Outcome:
        claim, checkpoint = self._position.claim, self._position.checkpoint
        outcome = await self._store.apply(self.partition, claim, checkpoint, next_offset, changes)
        if not outcome.lost:
            self._position = ClaimPosition(claim, next_offset)
        return outcome


class WorkerPartition(ClaimedPartition):
    """Folds a partition's batches from the claimed offset on.

    Steps: drop records before the position → decode and validate → read what memory lacks → fold → publish and wait for
    acknowledgements → apply with the checkpoint. Delivery to the store is exactly once, because the checkpoint moves
    with the state; to topics it is at least once. `folding` returns how to fold, before each batch; another one reads
    the state again. With `training` what models learn from is published to the training topic.
    """

    def __init__(
        self,
        partition: int,
        claim: Claim,
        start: int,
        store: Store,
        intake: Intake,
        publisher: Publisher,
        counters: WorkerCounters,
        projections: Collection[str] = PROJECTIONS,
        rows: TrackRows | None = None,
        *,
        training: bool = False,
        folding: Callable[[], Folding] = by_listen,
    ) -> None:
        super().__init__(partition, claim, start, store, intake, publisher)
        self._counters, self._training = counters, training
        self._projections, self._rows = projections, rows
        self._choose_folding, self._folding = folding, folding()
        self._fold = self._open_fold()

    @property
    def event_time(self) -> EventTime:
        """Of the newest listen that was accepted, once the state is loaded."""
        return self._fold.event_time

    @property
    def checkpoint(self) -> int:
        """The next offset in the store, which has every batch before the next begins."""
        return self.next_offset

    async def write_checkpoint(self) -> Outcome:
        """Do nothing: every batch is applied."""
        return Outcome.ALREADY

    async def process(self, records: Sequence[Any]) -> Outcome:
        if (folding := self._choose_folding()) is not self._folding:
            self._folding = folding
            self._fold = self._open_fold()
        records = self._folding.since(records, self.next_offset)
        if not len(records):
            return Outcome.ALREADY
        try:
            if not self._loaded:
                await self.load()
            outcome = Outcome.ALREADY
            for part, erased in self._parts(records):
                outcome = await (self._take(part) if erased is None else self._erase(part[0].offset, erased))
                if outcome.lost:
                    break
        except ClaimLostError as lost:
            outcome = lost.outcome
        return self._counters.count(outcome)

    def _parts(self, records: Sequence[Any]) -> Iterator[tuple[Sequence[Any], int | None]]:
        """Yield the batch in parts, in order: records to fold, or the tombstone of a listener, with the listener."""
        begin = 0
        for at in self._folding.without_value(records):
            if (user := erased_user(records[at])) is None:
                continue  # it is rejected with the others
            if at > begin:
                yield records[begin:at], None
            yield records[at : at + 1], user
            begin = at + 1
        if begin == 0:
            yield records, None
        elif begin < len(records):
            yield records[begin:], None

    def _open_fold(self) -> Fold:
        self._loaded = False
        # without a checkpoint there is no state: they are written together
        nothing_stored = self._position.checkpoint is None
        return self._folding.open(self.partition, self._projections, self._rows, nothing_stored=nothing_stored)

    async def load(self) -> None:
        """Read the collections that are needed whole, if the first `process` shall not; raises `ClaimLostError`."""
        fold = self._fold
        hashes, score_sets = await self._store.read_whole(
            self.partition, fold.hashes_read_at_claim, fold.score_sets, self._position
        )
        for name, fields in hashes.items():
            fold.load_fields(name, fields)
        for name, scores in score_sets.items():
            fold.load_scores(name, scores)
        self._loaded = True

    async def _erase(self, offset: int, user: int) -> Outcome:
        """Remove a listener from memory and store, in the order of the partition, so nothing can be written back."""
        if self._training:  # the topic covers every offset
            topic_id = self._position.claim.topic_id or ""
            covering = training_batches_of(topic_id, self.partition, self.next_offset, offset + 1, ())
            await self._publisher.emit(covering, ())
        outcome = await self._apply(offset + 1, self._fold.erase(user))
        if not outcome.lost:
            self.next_offset = offset + 1
        return outcome

    async def _take(self, records: Sequence[Any]) -> Outcome:
        good, rejected = self._folding.accept(records, self._intake, self.event_time)
        await self._read_missing(good)
        duplicates = self._fold.duplicates
        kept = self._fold.fold(good)
        changes, sessions = self._fold.take_changes(), self._fold.take_closed_sessions()
        topic_id, new_next = self._position.claim.topic_id or "", records[-1].offset + 1
        events: list[Publishable] = [*sessions]
        if self._training:
            # from the checkpoint on: what lies before it is in the training topic already
            events += self._folding.batches(topic_id, self.partition, self.next_offset, new_next, kept)
        if events or rejected:
            # correct even if another worker owns the partition by now: every read was made under the position
            await self._publisher.emit(events, rejected)
        outcome = await self._apply(new_next, changes)
        if not outcome.lost:
            self.next_offset = new_next
            counters = self._counters
            counters.batches += 1
            counters.listens += len(good)
            counters.duplicates += self._fold.duplicates - duplicates
            for letter in rejected:
                counters.rejected[type(letter.reason).__name__] += 1
            counters.sessions += len(sessions)
        return outcome

    async def _read_missing(self, batch: Any) -> None:
        if not (missing := self._fold.missing(batch)):
            return
        for name, fields in (await self._store.read_fields(self.partition, missing, self._position)).items():
            self._fold.load_fields(name, fields)
