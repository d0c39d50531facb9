"""Move the listens to a topic with more partitions, and the state with them, while all programs run.

    old topic ──copier──► new topic ──fold──► namespace next to the live one    again and again, until both are close
    close the old topic: each leader must refuse a probe; those who send listens wait
    the workers fold the old topic to its end; the copier and the fold follow     some tenths of a second
    swap the namespace, open the new topic: listens go there, workers begin again at its end

Exactly once, in three parts:

- **The copy.** Each new partition is filled from one old partition, in its order, and each copy carries the offset of
  its original. A copier that was killed reads there how far the copy is. Offsets that do not rise betray a second
  copier, and the move is refused.
- **Decisions.** Only what a worker has folded is copied, without its dead letters: the copies are the accepted listens.
- **Effects.** Before the new topic is opened, its records are exactly the copies, and the workers have published the
  sessions and training batches of all originals. The workers that take over begin after the copies. Empty training
  batches over the offsets of the copies tell the learner that nothing is missing there.

Popularity, a sum over listeners, is of fewer listeners each, and equals a fold of the new topic.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any

from confluent_kafka import IsolationLevel, KafkaException, Message
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic, OffsetSpec

from botify.core.errors import DecodeError, TopicError
from botify.core.kafka.admin import (
    TIMEOUT_S,
    end_offsets,
    list_offsets,
    partition_counts,
    read_topic_id,
    start_offsets,
    wait_until_listed,
)
from botify.core.kafka.column_fetch import ColumnLog, has_records
from botify.core.kafka.config import common_config, key_of, partition_of
from botify.core.kafka.headers import carried, headers_of
from botify.core.kafka.layout import (
    COPIED,
    LISTENS_CONFIG,
    MAX_BYTES,
    MAX_LEAD,
    TIMESTAMP_TYPE,
    ClosedEnds,
    TopicPhase,
    alter_topics,
    ask_leaders,
    own_options,
    read_phases,
)
from botify.core.kafka.publisher import RecordPublisher
from botify.core.kafka.reader import BATCH, TopicReader, log_record
from botify.core.process import gather_or_cancel
from botify.core.settings import Settings
from botify.schemas.dead_letters import Origin, RejectedBefore, originals_of
from botify.schemas.registry import codec_of
from botify.schemas.topics import Topics
from botify.schemas.training import training_batches_of
from botify.schemas.validation import erased_user
from botify.streams.dlq.exclude import exclude_erased
from botify.streams.folds.partition import PROJECTIONS
from botify.streams.replay.sources import ReplayError, ReplaySources, open_sources
from botify.streams.replay.swap import fold_feedback, swap_pointer
from botify.streams.replay.targets import NamespaceTarget, Progress
from botify.streams.store.keys import checkpoint_key
from botify.streams.store.namespaces import (
    NamespaceRecord,
    NamespaceRecords,
    checkpoints,
    former_namespaces,
    live_namespace,
)
from botify.streams.worker.partition import send_training

CLOSE_ENOUGH = 500  # records that the copy may lag when the old topic is closed
ROUND_S = 0.2  # pause between two rounds that found nothing to do
CLOSED_S = 10.0
"""How long the old topic may be closed. If the workers do not fold it to its end by then, it is opened again."""
POLL_S = 0.01
PACE_S = 0.1  # a limited rate is kept over this time
ROUND_RECORDS = 50_000  # most records of an old partition that are copied before they are folded
PATIENCE_S = 60.0  # how long the workers may fold nothing, although there are listens to fold
FILL_CONFIG = {**LISTENS_CONFIG, "retention.bytes": "-1", TIMESTAMP_TYPE: "CreateTime"}
"""While a topic is filled, all copies stay, and keep the time at which the broker took the original."""


@dataclass(frozen=True, slots=True)
class Moved:
    """What a repartition did."""

    topic: str  # the open topic
    namespace: str
    partitions: int
    copied: int  # by this process
    left_out: int  # as dead letters
    waited_s: float  # for how long the listens had no open topic
    seconds: float


def check_target(partitions: int, wanted: int) -> None:
    """Raise `ReplayError` unless the number of partitions is a multiple of the present one. Pure."""
    if wanted <= partitions or wanted % partitions:
        raise ReplayError(
            f"{wanted} is no multiple of {partitions}, the present number of partitions: listens of several partitions "
            f"would share one, though they have no order among themselves; choose {2 * partitions}, {3 * partitions}, "
            f"{4 * partitions} and so on"
        )


@dataclass(slots=True)
class CopyPosition:
    """How far each new partition is; from the records of the new topic alone."""

    # offset of the original of the last copy; new partitions without copies have none
    last: dict[int, int] = field(default_factory=dict)
    ends: dict[int, int] = field(default_factory=dict)  # the offset of the next copy

    def add(self, partition: int, offset: int, original: int) -> None:
        """Note a copy; raises `ReplayError` if it is not the one after the last."""
        if original <= self.last.get(partition, -1):
            raise ReplayError(
                f"new partition {partition} has the copy of offset {original} after that of {self.last[partition]}: "
                "two commands have copied at the same time. Delete the new topic, and begin again"
            )
        self.last[partition], self.ends[partition] = original, offset + 1

    def has(self, partition: int, original: int) -> bool:
        return original <= self.last.get(partition, -1)

    def begin(self, source: int, partitions: int, wanted: int) -> int:
        """Return the first offset of an old partition that may not be copied to one of its new partitions."""
        return min(self.last.get(target, -1) for target in range(source, wanted, partitions)) + 1


def read_position(settings: Settings, topic: str, rejected: RejectedBefore) -> CopyPosition:
    """Read a topic of copies from its beginning; `rejected` says which old records are dead letters. Blocks.

    Raises `ReplayError` if it is not what one copier has written, or an operator has excluded some originals since.
    """
    position = CopyPosition()
    with closing(TopicReader(settings, topic)) as reader:
        for message in chain.from_iterable(reader.read_to_end()):
            originals = originals_of(message)
            if not originals:
                raise ReplayError(f"{topic} has records that are not copies; delete it, and begin again")
            _, source, original = originals[-1]
            if original in rejected.offsets.get(source, ()) and original not in rejected.erased.get(source, ()):
                raise _excluded_late(topic)
            position.add(message.partition(), message.offset(), original)
    return position


def _excluded_late(topic: str) -> ReplayError:
    return ReplayError(f"listens were excluded after they were copied to {topic}; delete that topic, and begin again")


class Copier:
    """Copies accepted listens, with key, value, headers and time, to the partition of their listener.

    Delivery is exactly once as long as one copier runs at a time; each `copy` detects another one. `rate` is in records
    a second; `force` begins with what is left, where the first records are gone.
    """

    def __init__(self, old: Settings, new: Settings, rate: float | None = None, force: bool = False) -> None:
        self._old, self._new, self._rate = old, new, rate
        self._source, self._target = Topics.of(old).listens.name, Topics.of(new).listens.name
        self._rejected = RejectedBefore(old, self._source)
        self._rejected.refresh()
        self._position = read_position(new, self._target, self._rejected)
        begin = {p: self._position.begin(p, old.partitions, new.partitions) for p in range(old.partitions)}
        if force:
            begin = {p: max(begin[p], first) for p, first in start_offsets(old, self._source).items()}
        batch = BATCH if rate is None else max(1, min(BATCH, int(rate * PACE_S)))
        self._reader = TopicReader(old, self._source, begin, batch=batch, auto_offset_reset="error")
        self.publisher = RecordPublisher(new, linger_ms=5)
        self._admin = AdminClient(common_config(new))
        self._letters = self._rejected.count_before(self.reached, erased=False)
        self.copied = self.left_out = 0

    @property
    def reached(self) -> Mapping[int, int]:
        return self._reader.next_offsets

    @property
    def ends(self) -> dict[int, int]:
        return {partition: self._position.ends.get(partition, 0) for partition in range(self._new.partitions)}

    def copy(self, folded: Mapping[int, int], progress: Progress) -> None:
        """Copy on towards what the workers have folded, and return when all is acknowledged. Blocks.

        Raises `ReplayError` if another process writes to the new topic, listens that were copied have become dead
        letters, or records to copy are gone; `PublishError` or `TopicError` if a topic cannot be written or read.
        """
        self._rejected.refresh()  # after the checkpoints were read: letters are sent before these move
        if self._rejected.count_before(self.reached, erased=False) != self._letters:
            raise _excluded_late(self._target)
        end = {p: min(at, self.reached[p] + ROUND_RECORDS) for p, at in folded.items() if at > self.reached[p]}
        try:
            for batch in self._reader.read_to_end(end) if end else ():
                began_s = time.monotonic()
                self._copy(batch)
                progress(len(batch))
                if self._rate is not None:
                    time.sleep(max(0.0, len(batch) / self._rate - (time.monotonic() - began_s)))
        except TopicError as error:
            first = start_offsets(self._old, self._source)
            if gone := [f"{p}: {at} to {first[p] - 1}" for p, at in self.reached.items() if at < first[p]]:
                raise ReplayError(
                    f"{self._source} no longer has records that the state has and that were not copied (partition: "
                    f"offsets {', '.join(gone)}); the new state would lack them. `--force` moves what is left"
                ) from error
            raise
        self.publisher.flush()
        self._letters = self._rejected.count_before(self.reached, erased=False)
        wanted, latest = [(self._target, partition) for partition in self.ends], OffsetSpec.latest()
        config, every = common_config(self._new), IsolationLevel.READ_UNCOMMITTED
        found = list_offsets(config, wanted, latest, self._admin, every)
        if {partition: offset for (_, partition), offset in found.items()} != self.ends:
            raise ReplayError(f"another process writes to {self._target}; let one command run at a time")

    def close(self) -> None:
        self._reader.close()
        self._rejected.close()
        self.publisher.drop()

    def _copy(self, messages: Sequence[Message]) -> None:
        rejected, position, wanted = self._rejected.offsets, self._position, self._new.partitions
        send, topic, ends = self.publisher.send, self._target, position.ends
        for message in messages:
            source, offset, key = message.partition(), message.offset(), message.key()
            if offset in rejected.get(source, ()):
                self.left_out += 1
                continue
            target = partition_of(user_of(key, self._source, offset), wanted)
            if position.has(target, offset):
                continue
            own = carried((name, value) for name, value in headers_of(message) if name != COPIED)
            # what others claim stays behind
            before = [(COPIED, str(origin).encode()) for origin in originals_of(message)]
            headers = [*own, *before, (COPIED, str(Origin(self._source, source, offset)).encode())]
            send(topic, message.value(), key, partition=target, timestamp_ms=message.timestamp()[1], headers=headers)
            position.add(target, ends.get(target, 0), offset)
            self.copied += 1


def user_of(key: bytes | None, topic: str, offset: int) -> int:
    """Return the listener of an accepted record; raises `DecodeError` for any other key."""
    if key is None or not key.isdigit() or key_of(int(key)) != key:
        raise DecodeError(f"{topic}: the record at offset {offset} was folded, but its key {key!r} is no listener", b"")
    return int(key)


async def repartition(
    old: Settings,
    wanted: int,
    *,
    rate: float | None = None,
    force: bool = False,
    progress: Progress = lambda records: None,
) -> Moved:
    """Move the listens of the live layout to a topic of `wanted` partitions; a move that was interrupted is resumed.

    At most `rate` records a second are copied. `force` moves what is left where the old topic has lost records. Raises
    `ReplayError` if it is not possible, or the workers do not keep up; then the old topic is open. If a server fails,
    it may be closed: run the command again.
    """
    began_s = time.monotonic()
    if old.layout == str(wanted):
        await asyncio.to_thread(_leave_out_erased, old)  # it may have been killed before
        raise ReplayError(f"{Topics.of(old).listens.name} is the live topic already, with {wanted} partitions")
    old = old.with_(partitions=(await asyncio.to_thread(_live_count, old)))
    check_target(old.partitions, wanted)
    new = old.with_(layout=str(wanted), partitions=wanted)
    await asyncio.to_thread(_create, old, new)
    async with open_sources(new) as sources:
        live = await live_namespace(sources.redis, old.topic_prefix)
        record = await NamespaceRecords(sources.redis, old.topic_prefix).find(live)
        copied = left_out = 0
        closed_s = time.monotonic()
        if record is None or record.layout != new.layout:  # else it was killed after the swap
            move = _Move(sources, old, live, progress)
            await move.begin(rate, force)
            try:
                await fold_feedback(sources, move.record.namespace, live)
                await move.catch_up()
                closed_s = await move.swap()
            finally:
                await move.close()
            record, copied, left_out = move.record, move.copier.copied, move.copier.left_out
        await asyncio.to_thread(_open, old, new)
        waited_s = time.monotonic() - closed_s
        await asyncio.to_thread(_leave_out_erased, new)
    topic = Topics.of(new).listens.name
    return Moved(topic, record.namespace, wanted, copied, left_out, waited_s, time.monotonic() - began_s)


class _Move:
    def __init__(self, sources: ReplaySources, old: Settings, live: str, progress: Progress) -> None:
        self._sources, self._old, self._live, self._progress = sources, old, live, progress
        self._topic = Topics.of(old).listens.name
        self._logs: dict[int, ColumnLog] = {}

    async def begin(self, rate: float | None, force: bool) -> None:
        """Claim the namespace, which fences an earlier command, and read how far the copy is."""
        await self._check_topic()
        self.record = await _namespace(self._sources, self._live)
        self._target = NamespaceTarget(self._sources, self.record.namespace)
        self.copier = await asyncio.to_thread(Copier, self._old, self._sources.settings, rate, force)
        for partition in range(self._sources.settings.partitions):
            await self._target.open(partition, 0)

    async def catch_up(self) -> None:
        give_up = time.monotonic() + PATIENCE_S
        while True:
            before = sum(self.copier.reached.values())
            folded = await self._round()
            if sum(self.copier.reached.values()) > before:
                give_up = time.monotonic() + PATIENCE_S
            end = await asyncio.to_thread(end_offsets, self._old, self._topic)
            if sum(end.values()) - sum(self.copier.reached.values()) <= CLOSE_ENOUGH:
                return
            if time.monotonic() > give_up:
                raise ReplayError(
                    f"the workers are {sum(end.values()) - sum(folded.values()):,} listens behind and fold nothing; "
                    "start them, then run this again"
                )
            if folded == self.copier.reached:
                await asyncio.sleep(ROUND_S)

    async def swap(self) -> float:
        """Close the old topic, bring all of it over, and make the namespace live; return when it was closed."""
        topic, partitions, copies = self._topic, self._old.partitions, self._sources.topic
        most_bytes = (await asyncio.to_thread(own_options, self._sources.settings, copies)).get(MAX_BYTES)
        closed_s, swapping = time.monotonic(), False
        try:
            async with ask_leaders(self._old, topic, partitions) as closed_ends:
                await asyncio.to_thread(alter_topics, self._old, {topic: {MAX_BYTES: "1"}})
                has_more = partial(has_records, self._old, topic)
                end = await folded_to_the_end(
                    topic, partitions, closed_ends, self._round, has_more, closed_s + CLOSED_S
                )
            while self.copier.reached != end:
                await self._round()
            await self._check_topic()
            await asyncio.to_thread(self._train_nothing)
            await NamespaceRecords(self._sources.redis, self._old.topic_prefix).put(self.record.with_(done=True))
            swapping = True
            await swap_pointer(self._sources.redis, self._old.topic_prefix, self._live, self.record.namespace)
        except BaseException as error:
            if not swapping or isinstance(error, ReplayError):  # else Redis may have swapped; the next run finds out
                await asyncio.to_thread(alter_topics, self._old, {topic: {MAX_BYTES: most_bytes}})
            raise
        return closed_s

    async def close(self) -> None:
        for log in self._logs.values():
            await log.aclose()
        await asyncio.to_thread(self.copier.close)

    async def _round(self) -> Mapping[int, int]:
        folded = await checkpoints(self._sources.redis, self._live, range(self._old.partitions))
        await asyncio.to_thread(self.copier.copy, folded, self._progress)
        await gather_or_cancel(self._fold(partition, end) for partition, end in self.copier.ends.items())
        return folded

    async def _fold(self, partition: int, end: int) -> None:
        begin = await self._target.open(partition, 0)
        if begin >= end:
            return
        if (log := self._logs.get(partition)) is None:
            settings, topic = self._sources.settings, self._sources.topic
            log = self._logs[partition] = ColumnLog(settings, topic, partition, begin)
        async with aclosing(log.read_ahead(end)) as batches:
            async for batch in batches:
                await self._target.write(partition, batch)

    async def _check_topic(self) -> None:
        """Refuse a topic that was deleted and made again, whose state is of other listens, and copies that are gone."""
        copies = self._sources.topic
        if any((await asyncio.to_thread(start_offsets, self._sources.settings, copies)).values()):
            raise ReplayError(f"{copies} has lost copies; delete that topic, and begin again")
        now = await asyncio.to_thread(read_topic_id, AdminClient(common_config(self._old)), self._topic)
        for partition in range(self._old.partitions):
            known = await self._sources.redis.hget(checkpoint_key(self._live, partition), "topic_id")
            if known is not None and known.decode() != now:
                raise ReplayError(
                    f"{self._topic} was deleted and made again: the state has listens that it never had. Build the "
                    "state of this topic first (`botify replay run`, then `swap`)"
                )

    def _train_nothing(self) -> None:
        """Publish that the copies are no training: the learner has learned from the originals. Copies do no harm."""
        if self._old.training != "on":
            return
        new, training = self._sources.settings, Topics.of(self._old).training.name
        codec, publisher = codec_of(new), self.copier.publisher  # which is connected: listens wait meanwhile
        for partition, end in self.copier.ends.items():
            for batch in training_batches_of(self._sources.state.topic_id, partition, 0, end, ()):
                send_training(publisher, training, self._old.learner_shards, batch, codec.encode(batch))
        publisher.flush()


async def folded_to_the_end(
    topic: str,
    partitions: int,
    closed_ends: ClosedEnds,
    follow: Callable[[], Awaitable[Mapping[int, int]]],
    has_more: Callable[[int, int, int], Awaitable[bool]],
    give_up: float,
) -> Mapping[int, int]:
    """Wait until the leaders of all partitions refuse records and the workers have folded all; return how far that is.

    `follow` copies what the workers have folded, and returns how far that is: where a transaction ended last, short of
    the end, as `has_more` of a partition, from and up to an offset, finds. Raises `ReplayError` if it takes too long,
    or if folded listens are gone.
    """
    before: Mapping[int, int] = {}
    while True:
        end = await closed_ends()
        folded = await follow()
        if gone := [partition for partition, at in end.items() if at < folded[partition]]:
            raise ReplayError(
                f"{topic} ends before what the workers have folded in partitions {_listed(gone)}: listens are gone. "
                "Build the state of what is left first (`botify replay run`, then `swap`)"
            )
        behind = [partition for partition, at in end.items() if folded[partition] < at]
        is_still = not behind or folded == before
        if len(end) == partitions and is_still and not [at for at in behind if await has_more(at, folded[at], end[at])]:
            return folded
        before = folded
        if time.monotonic() > give_up:
            taking = sorted(set(range(partitions)) - end.keys())
            late = f"the leaders of partitions {_listed(taking)} have not refused listens of" if taking else ""
            raise ReplayError(
                f"{late or 'the workers have not folded the end of'} {topic} within {CLOSED_S:.0f} s, so it is open "
                "again; look at their logs, then run this again"
            )
        await asyncio.sleep(POLL_S)


def _listed(partitions: Sequence[int]) -> str:
    return ", ".join(map(str, partitions))


async def _namespace(sources: ReplaySources, live: str) -> NamespaceRecord:
    """Return the namespace of a move that was interrupted, or begin one."""
    settings, topic_id = sources.settings, sources.state.topic_id
    records = NamespaceRecords(sources.redis, settings.topic_prefix)
    used = {live, *await former_namespaces(sources.redis, settings.topic_prefix)}
    for record in reversed(await records.all()):
        if record.layout == settings.layout and record.namespace not in used:
            known = await sources.redis.hget(checkpoint_key(record.namespace, 0), "topic_id")
            if known is None or known.decode() == topic_id:
                return record
    zeros = dict.fromkeys(range(settings.partitions), 0)
    return await records.begin(
        "r", start=zeros, end=zeros, projections=PROJECTIONS, layout=settings.layout, partitions=settings.partitions
    )


def _live_count(settings: Settings) -> int:
    phases = read_phases(settings)
    if settings.layout not in phases:
        raise TopicError(f"topic {Topics.of(settings).listens.name} does not exist; `botify topics create` creates it")
    return phases[settings.layout][1]


def _create(old: Settings, new: Settings) -> None:
    """Create the new topic, and give the dead letters as many partitions: a letter lies in that of its record."""
    topics, admin = Topics.of(new), AdminClient(common_config(new))
    name, letters = topics.listens.name, topics.dead_letters.name
    phase, count = read_phases(new).get(new.layout, (None, 0))
    if phase not in (None, TopicPhase.FILLED) or (phase is not None and count != new.partitions):
        raise ReplayError(f"{name} exists, and is no copy in progress; delete it first if it is an earlier layout")
    asked: dict[str, Any] = {}
    if phase is None:
        made = NewTopic(name, new.partitions, new.replication_factor, config={**_carried(old), **FILL_CONFIG})
        asked |= admin.create_topics([made], operation_timeout=TIMEOUT_S)
    if partition_counts(admin).get(letters, new.partitions) < new.partitions:
        asked |= admin.create_partitions([NewPartitions(letters, new.partitions)], operation_timeout=TIMEOUT_S)
    for topic, future in asked.items():
        try:
            future.result(TIMEOUT_S)
        except KafkaException as error:
            raise TopicError(f"{topic} cannot get {new.partitions} partitions: {error.args[0].str()}") from error
    wait_until_listed(new, {name: new.partitions, letters: new.partitions})


def _carried(old: Settings) -> dict[str, str]:
    """Return the options of the old topic that the new one gets too; not what closes a topic, or names partitions."""
    options = own_options(old, Topics.of(old).listens.name)
    left_out = ("message.timestamp.", "leader.replication.throttled", "follower.replication.throttled")
    return {
        name: value
        for name, value in options.items()
        if (name == MAX_LEAD or not name.startswith(left_out)) and not (name == MAX_BYTES and int(value) <= 1)
    }


def _open(old: Settings, new: Settings) -> None:
    before, after = Topics.of(old).listens.name, Topics.of(new).listens.name
    alter_topics(new, {after: {"retention.bytes": None, **LISTENS_CONFIG, **_carried(old)}})
    alter_topics(old, {before: {MAX_BYTES: "0"}})


def _leave_out_erased(new: Settings) -> None:
    """Write letters for the copies of listeners who were erased after they were copied: the copies have none yet."""
    topic, erased = Topics.of(new).listens.name, defaultdict[int, dict[int, int]](dict)
    with closing(TopicReader(new, topic)) as reader:
        for message in chain.from_iterable(reader.read_to_end()):
            if message.value() is None and (user := erased_user(log_record(message))) is not None:
                erased[message.partition()][user] = message.offset()
    exclude_erased(new, erased)
