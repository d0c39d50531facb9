"""Follow a topic of somebody else's records: each becomes a listen or a dead letter, exactly once.

A transaction has the listens and the dead letters of some records, and the offsets up to which the topic is read. So a
process that is killed at any moment leaves all of them or none, and the next one continues there; one that still runs
cannot commit any more. Whoever reads listens reads committed ones only.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from confluent_kafka import Message

from botify.core.errors import TopicError
from botify.core.files import write_durably
from botify.core.kafka.admin import describe_topic, end_offsets
from botify.core.kafka.config import key_of
from botify.core.kafka.headers import headers_of
from botify.core.kafka.publisher import TransactionalPublisher
from botify.core.kafka.reader import AssignedConsumer
from botify.core.process import StopRequested
from botify.core.settings import Settings
from botify.ingest.mapping import MappingError, Name, RecordMapping, UnmappedError, name_of
from botify.schemas.catalogue import CatalogueReader
from botify.schemas.codec import Codec
from botify.schemas.dead_letters import dead_letter
from botify.schemas.events import NAMED, Feedback, Listen
from botify.schemas.external_ids import UserIds
from botify.schemas.registry import codec_of
from botify.schemas.topics import MAX_DEAD_LETTER_BYTES, Topics

BATCH = 20_000  # records of a transaction at most
WAIT_S, GATHER_S = 0.2, 0.1
PATIENCE_S = 30.0
"""How long brokers may be away; less than a worker's two minutes, because what a killed follower has begun keeps
readers from later listens for as long, unless the next one ends it."""
GAP_MS = 30 * 60 * 1000  # between two listens of a session at most
MOST_SESSIONS = 500_000  # that are known, 300 bytes each: those of the listeners who were heard last
KEEP_EVERY = 500_000  # records after which the sessions are kept in a file; a restart reads as many again
ENOUGH = 100  # records none of which maps: then the mapping is wrong, not the records

Offsets = dict[int, int]
Place = tuple[int, float, int, str, int]  # user, fraction, time, session, and position in it
Progress = Callable[[int], None]  # told how many records are followed
_Listener = list[Any]  # number, session, its newest time in ms, and the position of the last listen in it


class Followed(NamedTuple):
    """What was done."""

    listens: int
    letters: int
    lost: int  # records that the topic's retention had removed before they were followed


def follow_topic(
    settings: Settings,
    topic: str,
    mapping: RecordMapping,
    *,
    until_end: bool = False,
    progress: Progress = lambda done: None,
    stopping: StopRequested = lambda: False,
) -> Followed:
    """Follow a topic from where it was left, or from its beginning, until `stopping`, or to its end as it is now.

    Raises `TopicError` if the topic does not exist or cannot be read, `MappingError` if the mapping fits none of the
    first records, and `PublishError` if a broker refused a record or another process follows the topic. The same call
    continues.
    """
    if topic.startswith(f"{settings.topic_prefix}."):
        raise TopicError(f"{topic} is a topic of Botify's own; follow one of somebody else's")
    ends = end_offsets(settings, topic)  # refuses a topic that does not exist
    name = f"{settings.topic_prefix}-follow-{topic}-{describe_topic(settings, topic).topic_id}"
    publisher = TransactionalPublisher(
        settings, name, timeout_s=PATIENCE_S, linger_ms=20, message_max_bytes=MAX_DEAD_LETTER_BYTES
    )  # first, as it ends others, whose commits are settled then
    found = describe_topic(settings, topic, name)
    begins, start = not found.committed, {**found.start, **found.committed}
    if any(offset > found.end[partition] for partition, offset in start.items()):
        raise TopicError(
            f"{topic} has lost records: it ends before what was followed of it; to follow it from its beginning, "
            f"delete the consumer group {name}"
        )
    lost = sum(max(0, offset - start[partition]) for partition, offset in found.start.items())
    names = Names(UserIds.of(settings))
    sessions = Sessions(settings.home / "follow" / f"{name}.json", name, len(ends), names.first_seen)
    position = sessions.open(start)
    with (
        closing(AssignedConsumer(settings, topic, position, name, enable_partition_eof=True)) as consumer,
        closing(_Follower(settings, mapping, names, sessions, publisher)) as follower,
    ):
        kept_at = 0
        while not stopping() and not (until_end and all(consumer.position[p] >= ends[p] for p in ends)):
            records = consumer.poll(BATCH, WAIT_S, GATHER_S)
            follower.replay([one for one in records if one.offset() < start[one.partition()]])
            new = [one for one in records if one.offset() >= start[one.partition()]]
            if not new:
                continue
            publisher.begin()
            follower.take(new, begins=begins)
            read = {partition: max(offset, start[partition]) for partition, offset in consumer.position.items()}
            publisher.commit(topic, read, consumer.group_metadata)
            begins = False
            progress(done := follower.listens + follower.letters)
            if done - kept_at >= KEEP_EVERY:
                sessions.keep(consumer.position)
                kept_at = done
        sessions.keep(consumer.position)
        return Followed(follower.listens, follower.letters, lost)


class Names:
    """The numbers of listeners' names; `new` has the facts that tell those that were not heard for a while, or never.

    A copy of such a fact changes nothing. A number that another name has had first is not found out here: one of 9,000
    times a million new names have such a pair (`schemas/external_ids.py`).
    """

    def __init__(self, users: UserIds) -> None:
        self._users = users
        self.new: list[Feedback] = []

    def first_seen(self, name: str, time_ms: int) -> int:
        """Return the number of a name."""
        candidates = self._users.candidates(name)
        if len(candidates) > 1:
            self.new.append(Feedback(f"named-{candidates[0]}", candidates[0], 0, NAMED, time_ms, name))
        return candidates[0]


class Sessions:
    """The session that each listener is in, by partition of the topic: a function of the partition's records alone.

    Without a field for it, a session ends where its listener is silent for more than `GAP_MS`. Known are the listeners
    heard last, `MOST_SESSIONS` at most. They are kept in a file with the offsets that they reach, from which on a
    restart reads again, without publishing; without the file, it begins with new sessions.
    """

    def __init__(self, path: Path, name: str, partitions: int, first_seen: Callable[[str, int], int]) -> None:
        self.id = hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
        self._path, self._most, self._first_seen = path, MOST_SESSIONS // partitions // 2, first_seen
        # partition -> two generations, the listeners heard last in the first one: name -> state
        self._of: dict[int, list[dict[str, _Listener]]] = {partition: [{}, {}] for partition in range(partitions)}

    def open(self, start: Mapping[int, int]) -> Offsets:
        """Read the file, and return the offsets that it reaches; `start` if it does not fit these."""
        with suppress(OSError, ValueError, KeyError):
            kept = orjson.loads(self._path.read_bytes())
            reached = {int(partition): offset for partition, offset in kept["offsets"].items()}
            if reached.keys() == start.keys() and all(reached[p] <= start[p] for p in start):
                self._of = {int(partition): generations for partition, generations in kept["sessions"].items()}
                return reached
        self.keep(start)
        return dict(start)

    def keep(self, offsets: Mapping[int, int]) -> None:
        """Write the file."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        kept = orjson.dumps({"offsets": offsets, "sessions": self._of}, option=orjson.OPT_NON_STR_KEYS)
        write_durably(self._path, lambda new: new.write_bytes(kept))

    def place(self, partition: int, offset: int, name: str, time_ms: int, named: str | None) -> _Listener:
        """Return a listener's state after a listen, which has its session, and its position there."""
        newer, older = self._of[partition]
        state = newer.get(name)
        if state is None:
            if (state := older.pop(name, None)) is None:
                state = [self._first_seen(name, time_ms), "", -GAP_MS - 1, 0]
            newer[name] = state
            if len(newer) > self._most:
                self._of[partition] = [{}, newer]
        if abs(time_ms - state[2]) <= GAP_MS if named is None else named == state[1]:
            state[2] = max(time_ms, state[2])
            state[3] += 1
        else:
            state[1:] = named or f"{self.id}-{partition}-{offset}", time_ms, 0
        return state


class _Follower:
    """Makes listens and dead letters of records, and sends them."""

    def __init__(
        self,
        settings: Settings,
        mapping: RecordMapping,
        names: Names,
        sessions: Sessions,
        publisher: TransactionalPublisher,
    ) -> None:
        self._codec: Codec = codec_of(settings)
        self._catalogue = CatalogueReader(settings, self._codec)
        self._catalogue.refresh()
        self._mapping, self._names, self._sessions, self._publisher = mapping, names, sessions, publisher
        self._topics = Topics.of(settings)
        self._letter_partitions = len(end_offsets(settings, self._topics.dead_letters.name))
        self._item_of = lru_cache(1 << 17, typed=True)(self._look_up)
        self._looked_again = False
        self.listens = self.letters = 0

    def replay(self, records: Sequence[Message]) -> None:
        """Take records that were followed before: only their sessions count."""
        for record in records:
            with suppress(UnmappedError):
                self._place(record, record.partition(), record.offset())

    def take(self, records: Sequence[Message], *, begins: bool) -> None:
        """Send the listens and the dead letters of records; raises `MappingError` as `follow_topic`."""
        rows, refused, id_ = [], [], self._sessions.id
        self._names.new, self._looked_again = [], False
        for record in records:
            try:
                partition, offset = record.partition(), record.offset()
                item, place = self._place(record, partition, offset)
                rows.append((f"{id_}-{partition}-{offset}", self._item_of(item), *place))
            except UnmappedError as error:
                refused.append((record, error))
        if begins and not rows and len(refused) >= ENOUGH:
            raise MappingError(f"none of the first {len(refused):,} records is a listen: {_told(*refused[0])}")
        self._send(rows)
        new = self._names.new
        told = zip(self._codec.encode_many(new), new, strict=True)
        named = [{"key": key_of(one.user), "value": value} for value, one in told]
        self._publisher.send_batch(self._topics.feedback.name, named)
        for record, reason in refused:
            origin = record.topic(), record.partition(), record.offset()
            why = UnmappedError(_told(record, reason), b"")
            letter = dead_letter(origin, record.key(), record.value(), headers_of(record), why)
            self._publisher.send(
                self._topics.dead_letters.name, **letter, partition=record.partition() % self._letter_partitions
            )
        self.listens += len(rows)
        self.letters += len(refused)

    def close(self) -> None:
        """Leave the broker."""
        self._catalogue.close()

    def _place(self, record: Message, partition: int, offset: int) -> tuple[Name, Place]:
        """Return the item of a record, and its place, whether or not the item is known."""
        name, item, time_ms, fraction, session = self._mapping.read(record.value(), record)
        if time_ms is None:
            time_ms = record.timestamp()[1]
        user, session_id, _, position = self._sessions.place(partition, offset, name, time_ms, session)
        return item, (user, fraction, time_ms, session_id, position)

    def _send(self, rows: Sequence[tuple[str, int, *Place]]) -> None:
        if not rows:
            return
        ids, tracks, users, fractions, times_ms, sessions, positions = zip(*rows, strict=True)
        nothing = [None] * len(rows)
        columns = [ids, users, tracks, fractions, times_ms, sessions, positions, [False] * len(rows)]
        values = self._codec.encode_columns([*columns, nothing, [{}] * len(rows), *[nothing] * 4], Listen)
        batch = [{"key": key_of(user), "value": value} for user, value in zip(users, values, strict=True)]
        self._publisher.send_batch(self._topics.listens.name, batch)

    def _look_up(self, name: Name) -> int:
        """Return the number of an item: of its external id, or the number itself where the item has none."""
        try:
            item = name_of(name)
        except ValueError as error:
            raise UnmappedError(f"item: {error}; correct --map or the sender", b"") from None
        for again in (False, True):
            if again and not self._looked_again:  # once for some records: it takes a moment
                self._catalogue.refresh()
                self._looked_again = True
            tracks = self._catalogue.tracks
            if (found := tracks.with_external_id(item)) is not None:
                return found.track
            with suppress(ValueError, KeyError):
                if tracks[int(item)].external_id is None:
                    return int(item)
        raise UnmappedError(
            f"item: {item!r} is not in the catalogue; add it by `PUT /v1/items/…` or `botify data publish`", b""
        )


def _told(record: Message, reason: Exception) -> str:
    return f"{record.topic()}/{record.partition()}/{record.offset()}: {reason}"
