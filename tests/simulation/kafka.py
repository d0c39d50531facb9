"""The simulated Kafka: logs that grow, a group that assigns their partitions, and producers.

The group is eager and without a barrier: on each change the coordinator deals all partitions anew, and a member learns
of it with its next heartbeat. So for a while two members believe that they own a partition, more often than with Kafka,
whose members wait for one another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context
from random import Random
from typing import Any, TypeVar

from core.errors import PublishError
from core.kafka.offsets import TopicState
from core.kafka.reader import LogRecord
from core.settings import Settings
from schemas.topics import Topics
from tests.simulation import faults
from tests.simulation.faults import Faults
from tests.simulation.history import History
from tests.simulation.invariants import Invariants
from tests.simulation.loop import SimulatedLoop
from tests.simulation.topic import NAME, TOPIC_ID, PartitionLog

T = TypeVar("T")

SETTINGS = Settings()
SESSION_TIMEOUT_S = 10.0
HEARTBEAT_S = 3.0
EXPIRY_S = 2.0
FETCH_WAIT_S = 2.0
FAST_S = 0.02
SLOW_DESCRIBE_S = 4.0
SLOW_S = 25.0
"""How long a slow broker takes to acknowledge what is flushed: less than the worker's timeout."""

Assignment = tuple[int, frozenset[int]]
"""Generation, and the partitions of a member."""


class Kafka:
    """The brokers.

    Attributes
    ----------
    committed : dict of int to int
        Partition to the group's committed offset.
    """

    def __init__(
        self,
        loop: SimulatedLoop,
        logs: Sequence[PartitionLog],
        active: Faults,
        rng: Random,
        history: History,
        invariants: Invariants,
        context: Context,
    ) -> None:
        self.loop = loop
        self._logs = logs
        self._active = active
        self._rng = rng
        self._history = history
        self._invariants = invariants
        self._context = context
        self.committed: dict[int, int] = {}
        self._generation = 0
        self._members: dict[str, float] = {}
        self._assigned: dict[str, frozenset[int]] = {}
        topics = Topics.of(SETTINGS)
        self._accept: dict[str, Callable[[bytes], None]] = {
            topics.sessions.name: invariants.published_session,
            topics.training.name: invariants.published_training,
        }

    # ---- the topic of listens ----

    def describe(self) -> TopicState:
        """Return the topic's state; for a job of a thread, whose result may be late."""
        now = self.loop.time()
        visible = {log.partition: log.visible(now) for log in self._logs}
        end = {partition: records[-1].offset + 1 if records else 0 for partition, records in visible.items()}
        if self.strikes(faults.BROKER_SLOW):  # others may fold records meanwhile that this state does not know
            self.loop.spend(self._rng.uniform(0.0, SLOW_DESCRIBE_S))
        return TopicState(NAME, TOPIC_ID, dict.fromkeys(end, 0), end, dict(self.committed))

    async def fetch(self, positions: Mapping[int, int]) -> Mapping[int, Sequence[LogRecord]]:
        """Return records from the positions on, as they are now, after the network's delay; or nothing after a wait."""
        found, now = self._found(positions), self.loop.time()
        if found:
            await asyncio.sleep(self._rng.uniform(0.0, FAST_S))
            return found
        appended = min((self._logs[partition].next_append(now) for partition in positions), default=now + FETCH_WAIT_S)
        await asyncio.sleep(min(FETCH_WAIT_S, appended - now))
        return self._found(positions)

    def _found(self, positions: Mapping[int, int]) -> dict[int, Sequence[LogRecord]]:
        now = self.loop.time()
        found: dict[int, Sequence[LogRecord]] = {}
        for partition, position in positions.items():
            if self._logs[partition].grown_past(position, now):
                found[partition] = self._logs[partition].visible(now, position)[: self._rng.randint(1, 8)]
        return found

    # ---- the group ----

    async def heartbeat(self, member: str) -> Assignment:
        """Return the member's assignment; a member that is not known joins."""
        return await self._ask(lambda: self._beat(member))

    async def leave(self, member: str) -> None:
        """Take a member out of the group."""
        await self._ask(lambda: self._remove(member))

    async def commit(self, member: str, generation: int, offsets: Mapping[int, int]) -> None:
        """Commit offsets, if the member is of the current generation."""
        copy = dict(offsets)
        await self._ask(lambda: self._commit(member, generation, copy))

    async def expire_members(self) -> None:
        """Remove members whose heartbeats have stopped, for ever."""
        while True:
            await asyncio.sleep(EXPIRY_S)
            late = [m for m, beat in self._members.items() if self.loop.time() - beat > SESSION_TIMEOUT_S]
            for member in late:
                self._remove(member)

    def rebalance(self) -> None:
        """Deal the partitions anew."""
        self._generation += 1
        members, partitions = sorted(self._members), [log.partition for log in self._logs]
        self._rng.shuffle(members)
        self._rng.shuffle(partitions)
        self._assigned = {m: frozenset(partitions[at :: len(members)]) for at, m in enumerate(members)}
        dealt = ", ".join(f"{member} {sorted(self._assigned[member])}" for member in sorted(members))
        self._history.note("group", f"generation {self._generation}: {dealt or 'empty'}")

    def _beat(self, member: str) -> Assignment:
        known = member in self._members
        self._members[member] = self.loop.time()
        if not known:
            self.rebalance()
        return self._generation, self._assigned[member]

    def _remove(self, member: str) -> None:
        if self._members.pop(member, None) is not None:
            self.rebalance()

    def _commit(self, member: str, generation: int, offsets: Mapping[int, int]) -> None:
        if generation == self._generation and member in self._members:
            self.committed.update((p, at) for p, at in offsets.items() if p in self._assigned[member])

    async def _ask(self, execute: Callable[[], T]) -> T:
        """Execute in the broker, whether or not the caller is alive by then, and return the reply."""
        reply: asyncio.Future[T] = self.loop.create_future()

        def answer() -> None:
            result = execute()
            self._later(lambda: None if reply.done() else reply.set_result(result))

        self._later(answer)
        return await reply

    def _later(self, act: Callable[[], None]) -> None:
        self.loop.call_later(self._rng.uniform(0.0, FAST_S), act, context=self._context)

    # ---- what producers use ----

    def strikes(self, kind: str) -> bool:
        """Say whether a fault strikes now."""
        return self._active.strikes(kind, self.loop.time())

    def slow_s(self) -> float:
        """Draw how long a slow acknowledgement takes."""
        return self._rng.uniform(0.0, SLOW_S)

    def loses(self) -> bool:
        """Say whether a broker that refuses records refuses this one."""
        return self._rng.random() < 0.5

    def append(self, topic: str, value: bytes, headers: Sequence[tuple[str, bytes]]) -> None:
        """Append to a topic other than that of the listens."""
        if (accept := self._accept.get(topic)) is not None:
            accept(value)
        else:
            origin = dict(headers)
            partition, offset = (int(origin[f"__connect.errors.{name}"]) for name in ("partition", "offset"))
            self._invariants.published_letter(partition, offset)


class SimulatedProducer:
    """Stands in for `core.kafka.publisher.RecordPublisher`: like it, it keeps an error for ever."""

    def __init__(self, kafka: Kafka, settings: Settings, **_: Any) -> None:
        self._kafka = kafka
        self._queued: list[tuple[str, bytes, Sequence[tuple[str, bytes]]]] = []
        self._error: PublishError | None = None

    def send(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        *,
        partition: int = -1,
        timestamp_ms: int = 0,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        """Queue a record."""
        self._queued.append((topic, value or b"", headers))

    def flush(self, timeout_s: float) -> None:
        """Append what is queued, and take as long as the broker; a job of a thread."""
        kafka, refused = self._kafka, False
        for record in self._queued:
            if kafka.strikes(faults.BROKER_REFUSES) and kafka.loses():
                refused = True
            else:
                kafka.append(*record)
        self._queued.clear()
        if kafka.strikes(faults.BROKER_SLOW):
            kafka.loop.spend(kafka.slow_s())
        if refused or kafka.strikes(faults.BROKER_LOSES_REPLIES):
            self._error = PublishError("simulated", "refused" if refused else "not acknowledged")
        if self._error:
            raise self._error
