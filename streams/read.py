"""The read side of derived state, for services: states of listeners, popular tracks, checkpoints."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from botify.core.kafka.config import partition_of
from botify.core.settings import Settings
from botify.schemas.external_ids import UserIds, chosen
from botify.streams.folds.feedback import NAMES, OPINIONS, Said, read_name, read_said
from botify.streams.folds.likes import LIKES_OF_USERS, Likes
from botify.streams.folds.popularity import popularity_at, top_collection
from botify.streams.folds.sessions import EVENT_TIME, OPEN_SESSIONS, WATERMARK
from botify.streams.folds.users import USERS, UserState
from botify.streams.store.keys import (
    CHECKPOINT,
    default_namespace,
    feedback_of,
    id_of,
    namespace_pointer,
    namespace_records,
    partition_key,
)

POINTER_TTL_S = 0.5  # how long a reader may use a namespace after another became the live one

_OVERSAMPLING = 4


class TopTracks(NamedTuple):
    """The most popular tracks, best first."""

    tracks: NDArray[np.int64]  # shape (n,)
    # shape (n,): sums of the fractions heard, each halved with every half-life until `now_ms`
    listens: NDArray[np.float64]
    now_ms: int  # the newest event time of all partitions, so that no listen is later


class StateReader:
    """Reads the live namespace, and follows its pointer. The client is blocking, with raw replies.

    `feedback_partitions` are those of the topic of feedback, by default as many as of the listens.
    """

    def __init__(self, redis: Any, settings: Settings, feedback_partitions: int | None = None) -> None:
        self._redis = redis
        self._feedback_partitions = feedback_partitions or settings.partitions
        self._partitions = self._default_partitions = settings.partitions
        self._prefix, self._pointer = settings.topic_prefix, namespace_pointer(settings.topic_prefix)
        self._default_namespace = self._namespace = default_namespace(settings.topic_prefix)
        self._pointer_read_at = -POINTER_TTL_S

    @property
    def namespace(self) -> str:
        """The live namespace, at most `POINTER_TTL_S` old."""
        now = time.monotonic()
        if now - self._pointer_read_at >= POINTER_TTL_S:
            pointer = self._redis.get(self._pointer)
            namespace = pointer.decode() if pointer else self._default_namespace
            if namespace != self._namespace or self._pointer_read_at < 0:
                # its record has the number of partitions if the listens were moved
                raw = self._redis.hget(namespace_records(self._prefix), id_of(self._prefix, namespace))
                self._partitions = (json.loads(raw).get("partitions") if raw else None) or self._default_partitions
                self._namespace = namespace
            self._pointer_read_at = now
        return self._namespace

    @property
    def last_namespace(self) -> str:
        """The live namespace as it was last read, without asking Redis."""
        return self._namespace

    @property
    def partitions(self) -> int:
        _ = self.namespace
        return self._partitions

    def users(self, users: Sequence[int]) -> list[UserState | None]:
        """Return the states of listeners, in their order, None for unknown ones; one round trip a node."""
        (records,) = self._records(users, USERS)
        return [None if record is None else UserState.from_bytes(record) for record in records]

    def users_and_likes(self, users: Sequence[int]) -> tuple[list[UserState | None], list[Likes | None]]:
        """Return the states and the likes of listeners, both as `users` does; one round trip a node for both."""
        states, likes = self._records(users, USERS, LIKES_OF_USERS)
        read = [None if record is None else UserState.from_bytes(record) for record in states]
        return read, [None if record is None else Likes.from_bytes(record) for record in likes]

    def everyone(self, count: int) -> Iterator[list[int]]:
        """Yield the listeners who have state, up to `count` at a time, each once; 60 bytes each of a partition."""
        namespace = self.namespace
        for partition in range(self._partitions):
            seen, waiting = set[int](), list[int]()
            for user, _ in self._redis.hscan_iter(partition_key(namespace, partition, USERS), count=count):
                if (number := int(user)) not in seen:  # Redis may yield one twice while the hash grows
                    seen.add(number)
                    waiting.append(number)
                if len(waiting) == count:
                    yield waiting
                    waiting = []
            if waiting:
                yield waiting

    def count_everyone(self) -> int:
        """Return how many listeners have state."""
        return sum(self._of_partitions(USERS, lambda pipeline, key: pipeline.hlen(key)))

    def opinions(self, users: Sequence[int]) -> list[list[Said]]:
        """Return what listeners said of tracks, oldest first; one round trip a node."""
        return [read_said(record) for record in self._feedback(users, OPINIONS)]

    def names(self, users: Sequence[int]) -> list[str | None]:
        """Return what listeners are called, None where the state does not know; one round trip a node."""
        return [read_name(record) for record in self._feedback(users, NAMES)]

    def _feedback(self, users: Sequence[int], collection: str) -> list[bytes | None]:
        return self._fields(feedback_of(self.namespace), self._feedback_partitions, users, collection)[0]

    def number_of(self, users: UserIds, name: str) -> int:
        """Return the number of a name, or the one that it would get; raises `UserIdError`."""
        candidates = users.candidates(name)
        return chosen(name, dict(zip(candidates, self.names(candidates), strict=True)))

    def _records(self, users: Sequence[int], *collections: str) -> list[list[bytes | None]]:
        return self._fields(self.namespace, self.partitions, users, *collections)

    def _fields(
        self, namespace: str, partitions: int, users: Sequence[int], *collections: str
    ) -> list[list[bytes | None]]:
        by_partition: dict[int, list[int]] = {}
        for user in users:
            by_partition.setdefault(partition_of(user, partitions), []).append(user)
        pipeline = self._redis.pipeline(transaction=False)
        for collection in collections:
            for partition, members in by_partition.items():
                pipeline.hmget(partition_key(namespace, partition, collection), [b"%d" % user for user in members])
        replies = iter(pipeline.execute())
        columns = []
        for _ in collections:
            found: dict[int, bytes | None] = {}
            for members in by_partition.values():
                found.update(zip(members, next(replies), strict=True))
            columns.append([found[user] for user in users])
        return columns

    def top_tracks(self, half_life: str, count: int) -> TopTracks:
        """Return the most popular tracks; fewer if fewer were heard.

        Each partition ranks tracks by its own listeners. Their tops are merged, four times as deep as `count`; a
        track's listens lack its part in partitions where it ranks lower.
        """
        last = count * _OVERSAMPLING - 1
        replies = self._of_partitions(
            top_collection(half_life), lambda pipeline, key: pipeline.zrange(key, 0, last, desc=True, withscores=True)
        )
        now_ms = max(self.event_times().values(), default=0)  # after the scores: what comes in between only ages them
        pairs = [pair for reply in replies for pair in reply]
        tracks, rows = np.unique(np.array([int(member) for member, _ in pairs], dtype=np.int64), return_inverse=True)
        scores = np.full(len(tracks), -np.inf)
        np.logaddexp2.at(scores, rows, np.array([score for _, score in pairs]))
        best = np.argsort(-scores, kind="stable")[:count]
        return TopTracks(tracks[best], popularity_at(scores[best], half_life, now_ms), now_ms)

    def event_times(self) -> dict[int, int]:
        """Return the event time of each partition that has one, in ms."""
        replies = self._of_partitions(OPEN_SESSIONS, lambda pipeline, key: pipeline.hmget(key, [WATERMARK, EVENT_TIME]))
        return {
            partition: max(int(field) for field in fields if field is not None)
            for partition, fields in enumerate(replies)
            if any(fields)
        }

    def checkpoints(self) -> dict[int, int]:
        """Return the next offset to be folded of each partition that has state."""
        replies = self._of_partitions(CHECKPOINT, lambda pipeline, key: pipeline.hget(key, "next_offset"))
        return {partition: int(offset) for partition, offset in enumerate(replies) if offset is not None}

    def _of_partitions(self, collection: str, ask: Callable[[Any, str], object]) -> list[Any]:
        namespace = self.namespace
        pipeline = self._redis.pipeline(transaction=False)
        for partition in range(self._partitions):
            ask(pipeline, partition_key(namespace, partition, collection))
        replies: list[Any] = pipeline.execute()
        return replies
