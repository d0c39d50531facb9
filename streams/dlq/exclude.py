"""Exclude accepted listens: an operator writes a dead letter for each.

State is a fold of the listens topic without its dead letters, so every later fold leaves them out: a replay, a
verification, a worker after a claim, a retrained learner. Existing state and models keep them until they are rebuilt.

To erase a listener is more: nothing of the past listens stays in state, and no replay, model or export has them again.

    tombstone on listens ──► letters for the listens before it ──► the worker passes it ──► tombstone on feedback

A tombstone has the listener's key, no value, and a header of its own. On the listens it lies in the listener's own
partition, so every worker and replay removes the listener between the listens before it and those after it. The letters
keep the listens out of every later fold and model. What the worker made of them (sessions) is on its topics by the time
of the tombstone on the feedback, which tells exports until when records of the listener are left out. The topics
themselves keep the records, because offsets never change.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from confluent_kafka import KafkaError, Message

from botify.core.errors import BotifyError, DecodeError, ExcludedError, PublishError
from botify.core.kafka.admin import end_offsets, start_offsets
from botify.core.kafka.config import key_of, partition_of
from botify.core.kafka.headers import headers_of
from botify.core.kafka.layout import COPIED, live_layout
from botify.core.kafka.publisher import RecordPublisher
from botify.core.kafka.reader import TopicReader
from botify.core.settings import Settings
from botify.core.times import iso_ms
from botify.schemas.codec import Codec
from botify.schemas.dead_letters import ERASED, EXCLUDED, Origin, RejectedBefore, dead_letter, originals_of
from botify.schemas.events import Listen
from botify.schemas.registry import codec_of
from botify.schemas.topics import MAX_DEAD_LETTER_BYTES, Topics
from botify.schemas.validation import ERASURE
from botify.streams.dlq.letters import ACKNOWLEDGE_TIMEOUT_S, DeadLetterError

log = logging.getLogger(__name__)

SAMPLE = 5
READ_AHEAD_KB = 4 * 1024  # a gateway reads, which has little memory


@dataclass(frozen=True, slots=True)
class Selection:
    """Which listens; all given conditions must hold."""

    origins: frozenset[Origin] | None = None  # single records, which may be unreadable
    user: int | None = None
    event_id: str | None = None
    # after_ms, before_ms: event time: `after_ms` and later, earlier than `before_ms`
    after_ms: int | None = None
    before_ms: int | None = None

    def takes(self, origin: Origin, listen: Listen | None) -> bool:
        if self.origins is not None and origin not in self.origins:
            return False
        if listen is None:
            return self == Selection(self.origins)  # it has no content to choose it by
        return (
            (self.user is None or listen.user == self.user)
            and (self.event_id is None or listen.event_id == self.event_id)
            and (self.after_ms is None or listen.timestamp_ms >= self.after_ms)
            and (self.before_ms is None or listen.timestamp_ms < self.before_ms)
        )


def select(
    ids: Sequence[str] = (),
    user: int | None = None,
    event_id: str | None = None,
    after: str | None = None,
    before: str | None = None,
) -> Selection | None:
    """Parse an operator's conditions, ids as `topic/partition/offset` and times in ISO 8601, by default UTC.

    None if none. Raises `DeadLetterError` if an id or a time cannot be parsed.
    """
    try:
        origins = frozenset(map(Origin.parse, ids)) if ids else None
    except ValueError as error:
        raise DeadLetterError(f"{', '.join(ids)}: an id is TOPIC/PARTITION/OFFSET, as botify.listens/3/17") from error
    chosen = Selection(origins, user, event_id, _event_time_ms(after), _event_time_ms(before))
    return None if chosen == Selection() else chosen


@dataclass(slots=True)
class Excluded:
    """The result of an exclusion."""

    count: int = 0  # listens that are excluded now, or would be without a dry run
    already: int = 0  # chosen listens that were dead letters before
    # the first of `count`; None if the record is unreadable
    sample: list[tuple[Origin, Listen | None]] = field(default_factory=list)


def exclude(settings: Settings, selection: Selection, why: str, *, dry_run: bool = False) -> Excluded:
    """Write a dead letter for each chosen record up to the topic's current end; return when all are acknowledged.

    Delivery is at least once. Existing dead letters are skipped. `why` is the operator's reason. Raises
    `DeadLetterError` if a record does not exist, or a letter was not acknowledged.
    """
    topic, codec = Topics.of(settings).listens.name, codec_of(settings)
    begin, end = _range(settings, topic, selection)
    letters = None if dry_run else _Letters(settings, why)
    return _write(settings, begin, end, lambda batch: _chosen(batch, topic, selection, codec), letters)


def exclude_erased(settings: Settings, erased: Mapping[int, Mapping[int, int]], begin: int = 0) -> Excluded:
    """Write a dead letter, with nothing of the record, for each listen before its listener's tombstone; as `exclude`.

    `erased` has for each partition the users and offsets of tombstones; no listen of theirs is before `begin`.
    """
    topic, codec = Topics.of(settings).listens.name, codec_of(settings)
    wanted = {p: {key_of(user): offset for user, offset in users.items()} for p, users in erased.items()}
    end = {partition: max(users.values()) for partition, users in wanted.items() if users}

    def choose(batch: Sequence[Message]) -> Iterator[_Chosen]:
        # of a million records a handful is decoded: this runs next to what serves
        own = [m for m in batch if m.offset() < wanted[m.partition()].get(m.key(), 0) and m.value() is not None]
        found = _chosen(own, topic, Selection(), codec)  # what is no listen of theirs has a letter, or will have one
        return ((m, at, listen) for m, at, listen in found if listen is not None and key_of(listen.user) == m.key())

    first = {partition: min(begin, offset) for partition, offset in end.items()}
    return _write(settings, first, end, choose, _Letters(settings, ERASED, keep_bytes=False))


_Chosen = tuple[Message, Origin, Listen | None]


def _write(
    settings: Settings,
    begin: Mapping[int, int],
    end: Mapping[int, int],
    choose: Callable[[Sequence[Message]], Iterator[_Chosen]],
    letters: _Letters | None,
) -> Excluded:
    """Write letters for what is chosen of a stretch; without `letters`, count."""
    topic, outcome = Topics.of(settings).listens.name, Excluded()
    with (
        closing(RejectedBefore(settings, topic, partitions=end)) as rejected,  # a letter has its record's partition
        closing(TopicReader(settings, topic, begin, end, queued_max_messages_kbytes=READ_AHEAD_KB)) as reader,
    ):
        rejected.refresh()
        for batch in reader.read_to_end(end):
            new = []
            for message, origin, listen in choose(batch):
                if origin.offset in rejected.offsets.get(origin.partition, ()):
                    outcome.already += 1
                    continue
                new.append(message)
                if len(outcome.sample) < SAMPLE:
                    outcome.sample.append((origin, listen))
            if letters is not None:
                letters.send(new)
            outcome.count += len(new)
    if letters is not None and letters.claims:
        log.warning("%s: the header %s of %d records that are no copies is ignored", topic, COPIED, letters.claims)
    return outcome


def _range(settings: Settings, topic: str, selection: Selection) -> tuple[dict[int, int], dict[int, int]]:
    """Return the stretch of each partition to read; empty, at its end, if none of its records can be chosen."""
    start, end = start_offsets(settings, topic), end_offsets(settings, topic)
    if selection.origins is None:
        # a listener's records have one partition; those in another were rejected
        own = None if selection.user is None else partition_of(selection.user, len(end))
        return {p: start[p] if own in (None, p) else end[p] for p in end}, end
    begin, stop = dict(end), dict(end)
    by_partition: dict[int, list[int]] = {}
    for origin in selection.origins:
        if origin.topic != topic:
            raise DeadLetterError(f"{origin} is not a record of {topic}; only listens can be excluded")
        if not start.get(origin.partition, 0) <= origin.offset < end.get(origin.partition, 0):
            raise DeadLetterError(f"{topic} has no record {origin}; is the offset right?")
        by_partition.setdefault(origin.partition, []).append(origin.offset)
    for partition, offsets in by_partition.items():
        begin[partition], stop[partition] = min(offsets), max(offsets) + 1
    return begin, stop


def _chosen(batch: Sequence[Message], topic: str, selection: Selection, codec: Codec) -> Iterator[_Chosen]:
    listens: Sequence[Listen | DecodeError] = codec.decode_many([message.value() for message in batch], Listen)
    for message, decoded in zip(batch, listens, strict=True):
        origin = Origin(topic, message.partition(), message.offset())
        listen = None if isinstance(decoded, DecodeError) else decoded
        if selection.takes(origin, listen):
            yield message, origin, listen


class _Letters:
    def __init__(self, settings: Settings, why: str, *, keep_bytes: bool = True) -> None:
        self._topic = Topics.of(settings).dead_letters.name
        self._why, self._keep_bytes = why, keep_bytes
        self.claims = 0  # records that are no copies, though their header says so
        self._publisher = RecordPublisher(settings, linger_ms=20, message_max_bytes=MAX_DEAD_LETTER_BYTES)

    def send(self, messages: Sequence[Message]) -> None:
        """Publish a letter for each record; raises DeadLetterError if one is not acknowledged."""
        try:
            for message in messages:
                reason = ExcludedError(EXCLUDED + self._why, message.value() or b"")
                origin = Origin(message.topic(), message.partition(), message.offset())
                headers = headers_of(message)
                key, value, own = (message.key(), message.value(), headers) if self._keep_bytes else (None, None, ())
                # models have learned from the original, and not from its copy in another layout
                originals = originals_of(message)
                self.claims += not originals and any(name == COPIED for name, _ in headers)
                for at in (origin, *originals):
                    # copies of a letter keep their order by their partition: the first counts
                    letter = dead_letter(at, key, value, own, reason)
                    self._publisher.send(self._topic, **letter, partition=message.partition())
            self._publisher.flush(ACKNOWLEDGE_TIMEOUT_S)
        except PublishError as error:
            raise DeadLetterError(
                f"{self._topic} did not take all letters ({error.reason}); run the command again to continue"
            ) from error


def _event_time_ms(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return iso_ms(text)
    except ValueError as error:
        raise DeadLetterError(f"{text!r} is not a time; use the form 2026-01-31T12:00:00Z") from error


LOOK_S = 1.0  # between looks at whether the listens have moved
PASS_S = 600.0
"""How long the worker may take to reach a tombstone, such as while it is restarted; after that the erasure fails."""
POLL_S = 0.05


class ErasureError(BotifyError):
    """A listener is not erased yet; the erasure can be asked for again."""


def erase_listener(
    settings: Settings, user: int, checkpoint: Callable[[int], int | None], known: Callable[[], bool] = lambda: True
) -> int:
    """Erase a listener, and return the number of listens; a second time, it erases what came since. Blocks.

    `checkpoint` returns the next offset that a partition's worker will fold, None if the partition has no state.
    `known` says whether there may be listens that were folded and not yet erased: if not, none of them is read. Raises
    `ErasureError` if Kafka took not all of it, or the worker is too far behind, and `DeadLetterError` as `exclude`.
    """
    settings = live_layout(settings)
    topics, partition = Topics.of(settings), partition_of(user, settings.partitions)
    begin = checkpoint(partition) or 0  # asked before the state: of what is before it, the state has something
    begin = 0 if known() else begin
    offset = _tombstone(settings, topics.listens.name, user)
    done = exclude_erased(settings, {partition: {user: offset}}, begin)
    give_up, look = time.monotonic() + PASS_S, time.monotonic() + LOOK_S
    while (reached := checkpoint(partition)) is not None and reached <= offset:
        if (now := time.monotonic()) > look:
            if live_layout(settings).layout != settings.layout:  # the checkpoint is another topic's now
                raise ErasureError("the listens have moved to more partitions meanwhile; ask for the erasure again")
            look = now + LOOK_S
        if now > give_up:
            raise ErasureError(
                f"the worker has folded partition {partition} up to offset {reached}, and the erasure is at {offset}: "
                "it takes effect when the worker reaches it; ask for it again"
            )
        time.sleep(POLL_S)
    _tombstone(settings, topics.feedback.name, user)
    return done.count + done.already


def _tombstone(settings: Settings, topic: str, user: int) -> int:
    offsets: list[int] = []

    def on_delivery(error: KafkaError | None, message: Message) -> None:
        if error is None:
            offsets.append(message.offset())

    publisher = RecordPublisher(settings, delivery_report_only_error=False)
    publisher.produce(topic, key=key_of(user), value=None, headers=[(ERASURE, b"")], on_delivery=on_delivery)
    publisher.drain()
    if not offsets:
        raise ErasureError(f"{topic} did not take the erasure; ask for it again")
    return offsets[0]
