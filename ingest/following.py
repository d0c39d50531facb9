"""Follow a topic of somebody else's records: each becomes a listen or a dead letter, exactly once.

A transaction has the listens and the dead letters of some records, and the offsets up to which the topic is read. So a
process that is killed at any moment leaves all of them or none, and the next one continues there; one that still runs
cannot commit any more. Whoever reads listens reads committed ones only.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from functools import lru_cache
from itertools import compress
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import orjson
from confluent_kafka import Message

from botify.core.errors import TopicError
from botify.core.files import write_durably
from botify.core.kafka.admin import describe_topic, end_offsets
from botify.core.kafka.config import key_of
from botify.core.kafka.headers import headers_of
from botify.core.kafka.publisher import Record, TransactionalPublisher
from botify.core.kafka.reader import AssignedConsumer
from botify.core.process import StopRequested
from botify.core.settings import Settings
from botify.ingest.mapping import Mapped, MappingError, Name, RecordMapping, UnmappedError, name_of
from botify.schemas.catalogue import CatalogueReader
from botify.schemas.codec import Codec
from botify.schemas.dead_letters import dead_letter
from botify.schemas.events import Feedback, Listen
from botify.schemas.external_ids import UserIds
from botify.schemas.registry import codec_of
from botify.schemas.topics import MAX_DEAD_LETTER_BYTES, Topics
from botify.streams.names import Numbers

BATCH = 20_000  # records of a transaction at most
WAIT_S, GATHER_S = 0.2, 0.1
PATIENCE_S = 30.0
"""How long brokers may be away; less than a worker's two minutes, because what a killed follower has begun keeps
readers from later listens for as long, and until brokers look, unless the next one ends it."""
GAP_MS = 30 * 60 * 1000  # between two listens of a session at most
MOST_SESSIONS = 500_000  # that are known, 300 bytes each: those of the listeners who were heard last
KEEP_EVERY = 500_000  # records after which the sessions are kept in a file; a restart reads as many again
ENOUGH = 100  # records none of which maps: then the mapping is wrong, not the records

Offsets = dict[int, int]
Progress = Callable[[int], None]  # told how many records are followed
NumberNames = Callable[[Mapping[str, int]], tuple[Mapping[str, int], list[Feedback]]]  # as `Numbers.of`
_Refused = tuple[Message, str]  # and why; the error itself would keep all records of its batch, by its frames
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
    numbers = Numbers(settings, UserIds.of(settings))
    sessions = Sessions(settings.home / "follow" / f"{name}.json", name, len(ends), numbers.of)
    position = sessions.open(start)
    with (
        closing(numbers),
        closing(AssignedConsumer(settings, topic, position, name, enable_partition_eof=True)) as consumer,
        closing(_Follower(settings, mapping, sessions, publisher)) as follower,
        ThreadPoolExecutor(1) as committer,  # the next records are read while brokers commit
    ):
        kept_at, commit = 0, Future[None]()
        commit.set_result(None)
        while not stopping() and not (until_end and all(consumer.position[p] >= ends[p] for p in ends)):
            records = consumer.poll(BATCH, WAIT_S, GATHER_S)
            new = [one for one in records if one.offset() >= start[one.partition()]]
            if len(new) < len(records):
                follower.replay([one for one in records if one.offset() < start[one.partition()]])
            if new:
                batch = follower.read(new, begins=begins)
            commit.result()
            if not new:
                continue
            publisher.begin()
            follower.send(batch)
            read = {partition: max(offset, start[partition]) for partition, offset in consumer.position.items()}
            commit = committer.submit(publisher.commit, topic, read, consumer.group_metadata)
            begins = False
            progress(done := follower.listens + follower.letters)
            if done - kept_at >= KEEP_EVERY:
                commit.result()
                sessions.keep(consumer.position)
                kept_at = done
        commit.result()
        sessions.keep(consumer.position)
        return Followed(follower.listens, follower.letters, lost)


class Sessions:
    """The session that each listener is in, by partition of the topic: a function of the partition's records alone.

    Without a field for it, a session ends where its listener is silent for more than `GAP_MS`. Known are the listeners
    heard last, `MOST_SESSIONS` at most. They are kept in a file with the offsets that they reach, from which on a
    restart reads again, without publishing; without the file, it begins with new sessions.
    """

    def __init__(self, path: Path, name: str, partitions: int, numbers: NumberNames) -> None:
        self.id = hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
        self._path, self._most, self._numbers = path, MOST_SESSIONS // partitions // 2, numbers
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
        self._path.parent.mkdir(parents=True, exist_ok=True)
        kept = orjson.dumps({"offsets": offsets, "sessions": self._of}, option=orjson.OPT_NON_STR_KEYS)
        write_durably(self._path, lambda new: new.write_bytes(kept))

    def place(
        self,
        partitions: Sequence[int],
        offsets: Sequence[int],
        names: Sequence[str],
        times_ms: Sequence[int],
        named: Sequence[str | None],
    ) -> tuple[list[int | None], list[str], list[int], list[Feedback]]:
        """Return who listens, in which session and where in it, of records in order, columns of shape (n,).

        A number is None if other names have all that it could be. Returns the facts of new names, too.
        """
        states, sessions, positions, unknown = [], [], [], []
        columns = partitions, offsets, names, times_ms, named
        for partition, offset, name, time_ms, session in zip(*columns, strict=True):
            newer, older = self._of[partition]
            state = newer.get(name)
            if state is None:
                state = newer[name] = older.pop(name) if name in older else [None, "", -GAP_MS - 1, 0]
                if len(newer) > self._most:
                    self._of[partition] = [{}, newer]
            if state[0] is None:
                unknown.append((name, state, time_ms))
            if -GAP_MS <= time_ms - state[2] <= GAP_MS if session is None else session == state[1]:
                if time_ms > state[2]:
                    state[2] = time_ms
                state[3] += 1
            else:
                state[1:] = session or f"{self.id}-{partition}-{offset}", time_ms, 0
            states.append(state)
            sessions.append(state[1])
            positions.append(state[3])
        facts: list[Feedback] = []
        if unknown:
            numbers, facts = self._numbers({name: time_ms for name, _, time_ms in reversed(unknown)})
            for name, state, _ in unknown:
                state[0] = numbers.get(name)
        return [state[0] for state in states], sessions, positions, facts


class _Batch(NamedTuple):
    """What becomes of some records: listens, facts of names, and those that are dead letters, with the reason."""

    listens: list[Record]
    facts: list[Record]
    refused: list[_Refused]


class _Follower:
    """Makes listens and dead letters of records, and sends them."""

    def __init__(
        self, settings: Settings, mapping: RecordMapping, sessions: Sessions, publisher: TransactionalPublisher
    ) -> None:
        self._codec: Codec = codec_of(settings)
        self._catalogue = CatalogueReader(settings, self._codec)
        self._catalogue.refresh()
        self._mapping, self._sessions, self._publisher = mapping, sessions, publisher
        self._topics = Topics.of(settings)
        self._letter_partitions = len(end_offsets(settings, self._topics.dead_letters.name))
        self._item_of = lru_cache(1 << 17, typed=True)(self._look_up)
        self._looked_again = False
        self.listens = self.letters = 0

    def replay(self, records: Sequence[Message]) -> None:
        """Take records that were followed before: only their sessions count."""
        self._place(*self._map(records)[:2])

    def read(self, records: Sequence[Message], *, begins: bool) -> _Batch:
        """Return what becomes of records; raises `MappingError` as `follow_topic`."""
        kept, mapped, refused = self._map(records)
        columns, facts = self._place(kept, mapped)
        tracks: list[int | None] = []
        self._looked_again = False
        for record, (name, item, *_), user in zip(kept, mapped, columns[1], strict=True):
            try:
                tracks.append(self._item_of(item) if user is not None else self._refuse(name))
            except UnmappedError as error:
                tracks.append(None)
                refused.append((record, str(error)))
        if begins and len(refused) == len(records) >= ENOUGH:
            raise MappingError(f"none of the first {len(refused):,} records is a listen: {_told(*refused[0])}")
        columns.insert(2, tracks)
        if None in tracks:
            known = [track is not None for track in tracks]
            columns = [list(compress(column, known)) for column in columns]
        refused.sort(key=lambda one: (one[0].partition(), one[0].offset()))
        users, count = columns[1], len(columns[0])
        nothing = [None] * count
        columns += [[False] * count, nothing, [{}] * count, *[nothing] * 4]
        listens = _keyed(users, self._codec.encode_columns(columns, Listen)) if users else []
        return _Batch(listens, _keyed([one.user for one in facts], self._codec.encode_many(facts)), refused)

    def send(self, batch: _Batch) -> None:
        self._publisher.send_batch(self._topics.listens.name, batch.listens)
        self._publisher.send_batch(self._topics.feedback.name, batch.facts)
        for record, reason in batch.refused:
            origin = record.topic(), record.partition(), record.offset()
            why = UnmappedError(_told(record, reason), b"")
            letter = dead_letter(origin, record.key(), record.value(), headers_of(record), why)
            self._publisher.send(
                self._topics.dead_letters.name, **letter, partition=record.partition() % self._letter_partitions
            )
        self.listens += len(batch.listens)
        self.letters += len(batch.refused)

    def close(self) -> None:
        self._catalogue.close()

    def _map(self, records: Sequence[Message]) -> tuple[list[Message], list[Mapped], list[_Refused]]:
        """Return the records that map, what they say, and the others."""
        kept, mapped, refused, read = [], [], [], self._mapping.read
        for record in records:
            try:
                mapped.append(read(record.value(), record))
                kept.append(record)
            except UnmappedError as error:
                refused.append((record, str(error)))
        return kept, mapped, refused

    def _place(self, records: Sequence[Message], mapped: Sequence[Mapped]) -> tuple[list[Any], list[Feedback]]:
        """Return columns of `Listen` without tracks, whether or not the items are known, and the facts of new names."""
        names, _, times_ms, fractions, named = map(list, zip(*mapped, strict=True)) if mapped else ([], [], [], [], [])
        if None in times_ms:
            times_ms = [record.timestamp()[1] for record in records]
        partitions, offsets = [record.partition() for record in records], [record.offset() for record in records]
        users, sessions, positions, facts = self._sessions.place(partitions, offsets, names, times_ms, named)
        id_ = self._sessions.id
        ids = [f"{id_}-{partition}-{offset}" for partition, offset in zip(partitions, offsets, strict=True)]
        return [ids, users, fractions, times_ms, sessions, positions], facts

    def _refuse(self, name: str) -> NoReturn:
        raise UnmappedError(f"user: the numbers of {name!r} are other listeners'; call this listener otherwise", b"")

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


def _keyed(users: Sequence[int], values: Sequence[bytes]) -> list[Record]:
    return [{"key": key_of(user), "value": value} for user, value in zip(users, values, strict=True)]


def _told(record: Message, reason: str) -> str:
    return f"{record.topic()}/{record.partition()}/{record.offset()}: {reason}"
