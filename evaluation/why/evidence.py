"""What the topics have of an answer: its request, itself, and what the listener heard, from a snapshot's state on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from confluent_kafka import Message

from botify.core.errors import DecodeError
from botify.core.kafka.admin import end_offsets, offsets_at, start_offsets
from botify.core.kafka.config import key_of, partition_of
from botify.core.kafka.layout import live_layout
from botify.core.kafka.reader import TopicReader, log_record
from botify.core.settings import Settings
from botify.evaluation import EvaluationError
from botify.schemas.codec import Codec
from botify.schemas.dead_letters import RejectedBefore
from botify.schemas.events import Listen, Recommendation, RecommendationRequest
from botify.schemas.topics import Topics
from botify.schemas.validation import erased_user, iter_valid
from botify.services.recommender.sessions import REQUESTS
from botify.streams.folds.likes import LIKES_OF_USERS, Likes
from botify.streams.folds.users import USERS, UserState
from botify.streams.snapshot import Kind, SnapshotError, read_frames, read_partition

MOST_READ = 2_000_000  # records of a partition that are looked at for a request, or for its answer
MOST_UNANSWERED = 20  # of a listener's newest requests
WINDOW, MOST_WINDOW = 5_000, 160_000
SKEW_MS = 5_000  # by how much the clocks of two machines may differ

Tell = Callable[[int], None]  # told how many more records were read


class Found(NamedTuple):
    """An answer and its request."""

    request: RecommendationRequest
    answer: Recommendation
    requested_ms: int  # wall clock, of the request's record
    answered_ms: int
    # the session's earlier requests, oldest first: of those the recommender knew what the state lacked
    earlier: Sequence[RecommendationRequest]


def find_answer(
    settings: Settings, codec: Codec, user: int, request_id: str | None = None, before_ms: int | None = None
) -> Found:
    """Return a listener's newest answer, the newest to a request before a time, or that to one request.

    Only the partitions that have the listener's requests and this answer are read. Raises `EvaluationError` with the
    reason if there is none.
    """
    topic, key = Topics.of(settings).recommendation_requests.name, key_of(user)
    ends = end_offsets(settings, topic) if before_ms is None else offsets_at(settings, topic, before_ms)
    partition = partition_of(user, len(ends))
    start = start_offsets(settings, topic)[partition]
    unanswered = 0
    newest_first = _backwards(settings, topic, partition, start, ends[partition])
    for message in newest_first:
        if message.key() != key or (request := decoded(codec, message, RecommendationRequest)) is None:
            continue
        if request_id is not None and request.request_id != request_id:
            continue
        reply = _reply_to(settings, codec, request, message.timestamp()[1])
        if reply is not None:
            earlier = _earlier(codec, newest_first, key, request) if reply[0].pending else []
            return Found(request, reply[0], message.timestamp()[1], reply[1], earlier)
        unanswered += 1
        if request_id is not None or unanswered == MOST_UNANSWERED:
            raise EvaluationError(
                f"request {request.request_id} of listener {user} has no answer: it was past its deadline, it is "
                "still waiting, or the answer is no longer kept"
            )
    which = "" if request_id is None else f" with the id {request_id}"
    gone = "" if start == 0 else f"; the first {start:,} records of the partition are gone (retention.ms)"
    raise EvaluationError(
        f"listener {user} has no answered request{which} among the last {min(MOST_READ, ends[partition] - start):,} "
        f"records of {topic}[{partition}]{gone}"
    )


def _earlier(
    codec: Codec, newest_first: Iterator[Message], key: bytes, request: RecommendationRequest
) -> list[RecommendationRequest]:
    """Return what the recommender may have remembered of the session."""
    found: list[RecommendationRequest] = []
    for message in newest_first:
        one = decoded(codec, message, RecommendationRequest) if message.key() == key else None
        if one is None:
            continue
        if one.session_id != request.session_id or len(found) == REQUESTS:
            break
        found.insert(0, one)
    return found


def _backwards(settings: Settings, topic: str, partition: int, start: int, end: int) -> Iterator[Message]:
    """Yield the records of a stretch, the newest first, at most `MOST_READ`."""
    stop, width, least = end, WINDOW, max(start, end - MOST_READ)
    while stop > least:
        begin = max(least, stop - width)
        with closing(TopicReader(settings, topic, {partition: begin}, [partition])) as reader:
            window = [message for batch in reader.read_to_end({partition: stop}) for message in batch]
        yield from reversed(window)
        stop, width = begin, min(2 * width, MOST_WINDOW)


def _reply_to(
    settings: Settings, codec: Codec, request: RecommendationRequest, requested_ms: int
) -> tuple[Recommendation, int] | None:
    """Return the first answer to a request, the one that its client took, and when it was produced."""
    topic, key = Topics.of(settings).recommendations.name, key_of(request.user)
    begin, ends = offsets_at(settings, topic, requested_ms - SKEW_MS), end_offsets(settings, topic)
    named = request.reply_partition
    partition = partition_of(request.user, len(ends)) if named is None else named
    stop = min(ends[partition], begin[partition] + MOST_READ)
    if begin[partition] >= stop:
        return None
    with closing(TopicReader(settings, topic, {partition: begin[partition]}, [partition])) as reader:
        for batch in reader.read_to_end({partition: stop}):
            for message in batch:
                answer = decoded(codec, message, Recommendation) if message.key() == key else None
                if answer is not None and answer.request_id == request.request_id:
                    return answer, message.timestamp()[1]
    return None


def decoded(codec: Codec, message: Message, event: Any) -> Any:
    """Return the event of a record, None if it is none."""
    try:
        return codec.decode(message.value(), event)
    except DecodeError:
        return None


class Begun(NamedTuple):
    """A listener's state, and the offset of the first listen of their partition that is not in it."""

    offset: int
    state: UserState
    likes: Likes


def newest_before(folder: Path, user: int, listens: int, before_ms: int) -> Begun | None:
    """Return a listener's state from the newest file in a folder that was written before a time, if there is one.

    Files in which the listener has more than `listens` listens, and damaged ones, are passed over. Only the header of
    each file is read, and the listener's partition. Whether its state is of this topic, the hash in the answer says.
    """
    files = list[tuple[int, Path, int]]()
    for path in folder.iterdir() if folder.is_dir() else ():
        try:
            with closing(read_frames(path)) as frames:
                about = next(frames).about
        except SnapshotError:
            continue  # another file, or one that is being written
        if about["created_ms"] < before_ms:
            files.append((about["created_ms"], path, about["partitions"]))
    for _, path, partitions in sorted(files, reverse=True):
        try:
            begun = state_in(path, user, partition_of(user, partitions))
        except SnapshotError:
            continue
        if begun.state.listens <= listens:
            return begun
    return None


def state_in(path: Path, user: int, partition: int) -> Begun:
    """Return what a snapshot has of a listener; raises `SnapshotError`. The checksum is not verified."""
    offset, key, found = 0, b"%d" % user, dict[str, bytes]()
    with closing(read_partition(path, partition, key)) as frames:
        for kind, about, collection, items in frames:
            if kind is Kind.PARTITION:
                offset = about["next_offset"] or 0
            elif isinstance(value := items.get(key), bytes):
                found[collection] = value
    state, likes = found.get(USERS), found.get(LIKES_OF_USERS)
    return Begun(
        offset, UserState.from_bytes(state) if state else UserState(), Likes.from_bytes(likes) if likes else Likes()
    )


@dataclass(slots=True)
class Past:
    """What listeners heard, in the order of the topic; `erased` says whose was removed."""

    listens: dict[int, list[Listen]] = field(default_factory=dict)
    erased: set[int] = field(default_factory=set)
    missing: list[str] = field(default_factory=list)  # what retention has taken
    begun: dict[int, Begun] = field(default_factory=dict)  # states that the listens follow


def read_past(
    settings: Settings,
    codec: Codec,
    users: Collection[int],
    tell: Tell = lambda count: None,
    begun: Mapping[int, Begun] = MappingProxyType({}),
    until_ms: int | None = None,
) -> Past:
    """Read the listeners' partitions of the listens, without dead letters.

    They are read from the first record on, or what follows a state, and up to the end or the first record of a time.
    """
    live, past = live_layout(settings), Past(begun=dict(begun))
    topic = Topics.of(live).listens.name
    starts, by_key = start_offsets(live, topic), {key_of(user): user for user in users}
    partitions = {partition_of(user, len(starts)) for user in users}
    follows = {partition_of(user, len(starts)): of.offset for user, of in begun.items()}
    for partition in partitions:
        if starts[partition] > follows.get(partition, 0):
            past.missing.append(f"the first {starts[partition]:,} records of {topic}[{partition}] (retention)")
    starts = {partition: max(start, follows.get(partition, 0)) for partition, start in starts.items()}
    ends = end_offsets(live, topic) if until_ms is None else offsets_at(live, topic, until_ms)
    ends = {partition: ends[partition] for partition in partitions if ends[partition] > starts[partition]}
    with (
        closing(RejectedBefore(live, topic)) as rejected,
        closing(TopicReader(live, topic, starts, partitions)) as reader,
    ):
        rejected.refresh()
        for batch in reader.read_to_end(ends) if ends else ():
            for message in batch:
                if (user := by_key.get(message.key() or b"")) is None:
                    continue
                if message.value() is not None:
                    heard = iter_valid([message], Listen, codec, rejected.offsets)
                    past.listens.setdefault(user, []).extend(listen for _, listen in heard)
                elif erased_user(log_record(message)) == user:
                    past.erased.add(user)
                    past.listens.pop(user, None)  # as the worker: the state begins anew
                    past.begun.pop(user, None)
            tell(len(batch))
    return past
