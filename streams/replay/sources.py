"""What a replay reads: open sources, a plan of offsets, and the pace."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, closing
from dataclasses import dataclass, field
from typing import Any

from botify.core.errors import BotifyError
from botify.core.kafka.admin import TopicState, describe_topic
from botify.core.kafka.reader import LogRecord
from botify.core.settings import Settings
from botify.schemas.catalogue import CatalogueReader
from botify.schemas.dead_letters import Letters, RejectedBefore
from botify.schemas.event_time import Lead
from botify.schemas.registry import codec_of
from botify.schemas.topics import Topics, feedback_group_of, worker_group_of
from botify.schemas.validation import Intake
from botify.streams.folds.partition import ALWAYS_FOLDED, PROJECTIONS
from botify.streams.store.connect import connect_async


class ReplayError(BotifyError):
    """A replay cannot be done; the message names the remedy."""


@dataclass(frozen=True, slots=True)
class ReplaySources:
    """Open connections, and the topic's state when they were opened."""

    settings: Settings
    topic: str  # name of the listens topic, or that of the feedback
    state: TopicState
    intake: Intake  # accepts what the workers have accepted: dead letters stay out
    excluded: Mapping[int, int]  # number of listens that operators have excluded (`RejectedBefore.excluded`)
    redis: Any
    # those of the feedback, whose state is next to that of the listens; None if it is not folded
    feedback: ReplaySources | None = None
    rejected: RejectedBefore | None = None  # the dead letters of the intake; None if there are none of erased listeners
    # with which the state that is folded was begun; see `Claim.letters`
    begun: dict[int, Letters | None] = field(default_factory=dict)

    def letters(self) -> Letters:
        return {} if self.rejected is None else self.rejected.reached

    def leave_out(self, partition: int, letters: Letters | None) -> None:
        """Fold a partition without the dead letters with which its state was begun."""
        self.begun[partition] = letters
        if self.rejected is not None:
            self.rejected.count(partition)

    def erased(self, partition: int, letters: Letters | None) -> set[int]:
        """Return the records of erased listeners that a state which was begun with these letters has left out."""
        return set() if self.rejected is None else self.rejected.erased_before(partition, letters)


@asynccontextmanager
async def open_sources(settings: Settings) -> AsyncIterator[ReplaySources]:
    """Open the sources of a replay while the block runs; raises `TopicError` if the topic or the broker is missing."""
    topics, codec = Topics.of(settings), codec_of(settings)
    topic, said = topics.listens.name, topics.feedback.name
    state = await asyncio.to_thread(describe_topic, settings, topic, worker_group_of(settings))
    begun: dict[int, Letters | None] = {}
    said_state = await asyncio.to_thread(describe_topic, settings, said, feedback_group_of(settings))
    with (
        closing(CatalogueReader(settings, codec)) as catalogue,
        closing(RejectedBefore(settings, topic, said, begun=begun.get)) as rejected,
    ):
        async with aclosing(connect_async(settings)) as redis:
            await asyncio.to_thread(catalogue.refresh)
            await asyncio.to_thread(rejected.refresh)
            lead = await asyncio.to_thread(Lead.of, settings)
            intake = Intake(codec, catalogue.tracks, catalogue.refresh, rejected.offsets, lead)
            of_said = Intake(codec, rejected_before=rejected.offsets_of[said], lead=lead)
            feedback = ReplaySources(settings, said, said_state, of_said, {}, redis)
            yield ReplaySources(settings, topic, state, intake, rejected.excluded, redis, feedback, rejected, begun)


@dataclass(frozen=True, slots=True)
class Plan:
    """Which records are read, and into which projections."""

    topic: str
    topic_id: str
    # start, end: `end` is exclusive
    start: Mapping[int, int]
    end: Mapping[int, int]
    projections: Sequence[str]
    partial: Sequence[str]  # why the result is not the complete state; empty if it is

    @property
    def records(self) -> int:
        return sum(self.end[partition] - offset for partition, offset in self.start.items())


def make_plan(
    topic: str,
    state: TopicState,
    start: Mapping[int, int],
    end: Mapping[int, int],
    partitions: Collection[int] | None = None,
    projections: Collection[str] = PROJECTIONS,
) -> Plan:
    """Return the plan; raises `ReplayError` for an unknown partition or projection.

    State is a fold of *all* records, so a replay that lacks some is partial, and says why.

    Examples
    --------
    >>> state = TopicState("botify.listens", "an-id", start={0: 0, 1: 0}, end={0: 50, 1: 20})
    >>> plan = make_plan("botify.listens", state, start={0: 0, 1: 10}, end=state.end, partitions=[1])
    >>> plan.records
    10
    >>> plan.partial
    ['partition 1 begins at offset 10', 'partitions 0 are left out']
    """
    chosen = sorted(state.end if partitions is None else set(partitions))
    for partition in chosen:
        if partition not in state.end:
            raise ReplayError(f"{topic} has no partition {partition}; it has 0 to {len(state.end) - 1}")
    for name in projections:
        if name not in PROJECTIONS:
            raise ReplayError(f"unknown projection {name!r}; choose from {', '.join(PROJECTIONS)}")
    begin = {partition: start[partition] for partition in chosen}
    stop = {partition: max(end[partition], begin[partition]) for partition in chosen}
    partial = [f"partition {partition} begins at offset {offset}" for partition, offset in begin.items() if offset > 0]
    if missing := sorted(state.end.keys() - begin.keys()):
        partial.append(f"partitions {', '.join(map(str, missing))} are left out")
    if left_out := [name for name in PROJECTIONS if name not in projections and name not in ALWAYS_FOLDED]:
        partial.append(f"projections {', '.join(left_out)} are left out")
    return Plan(topic, state.topic_id, begin, stop, list(projections), partial)


SLICE_S = 0.02  # records that are due within this time are written together


class Pacer:
    """Delays records until they are due.

    At most `rate` records a second, and `speed` seconds of record time per second of wall time. Shared by all
    partitions.

    Examples
    --------
    >>> pacer = Pacer(rate=100.0)
    >>> [len(part) for part in pacer.parts([LogRecord("t", 0, n, 0, None, None, ()) for n in range(5)])]
    [2, 2, 1]
    """

    def __init__(
        self,
        rate: float | None = None,
        speed: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._rate, self._speed = rate, speed
        self._clock, self._sleep = clock, sleep
        self._started: float | None = None
        self._first_ms = self._sent = 0

    @property
    def by_time(self) -> bool:
        return self._speed is not None

    def parts(self, batch: Sequence[LogRecord]) -> Iterator[Sequence[LogRecord]]:
        """Split a batch into parts that are written together."""
        if self._rate is None and self._speed is None:
            yield batch
            return
        most = len(batch) if self._rate is None else max(1, int(self._rate * SLICE_S))
        span_ms = float("inf") if self._speed is None else self._speed * SLICE_S * 1000
        first = 0
        for at, record in enumerate(batch):
            if at - first >= most or record.timestamp - batch[first].timestamp > span_ms:
                yield batch[first:at]
                first = at
        yield batch[first:]

    async def wait(self, part: Sequence[LogRecord]) -> None:
        now = self._clock()
        if self._started is None:
            self._started, self._first_ms = now, part[0].timestamp
        due = self._started
        if self._rate is not None:
            due = max(due, self._started + self._sent / self._rate)
        if self._speed is not None:
            due = max(due, self._started + (part[0].timestamp - self._first_ms) / 1000 / self._speed)
        self._sent += len(part)
        if due > now:
            await self._sleep(due - now)
