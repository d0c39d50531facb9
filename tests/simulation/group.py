"""A topic that a consumer group reads: fetches from positions, generations, heartbeats, commits.

The group is eager and without a barrier: on each change the coordinator deals all partitions anew, and a member learns
of it with its next heartbeat. So for a while two members believe that they own a partition, more often than with Kafka,
whose members wait for one another.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from random import Random
from typing import Protocol

from botify.core.kafka.admin import TopicState
from botify.core.kafka.reader import LogRecord
from tests.simulation import faults
from tests.simulation.kafka import FAST_S, Kafka

SESSION_TIMEOUT_S = 10.0
HEARTBEAT_S = 3.0
EXPIRY_S = 2.0
FETCH_WAIT_S = 5.0
SLOW_DESCRIBE_S = 4.0

Assignment = tuple[int, frozenset[int]]
"""Generation, and the partitions of a member."""


class Log(Protocol):
    partition: int

    def visible(self, now_s: float, offset: int = 0) -> Sequence[LogRecord]:
        """Return the records from an offset on that are appended by now."""

    def grown_past(self, offset: int, now_s: float) -> bool:
        """Say whether there are records from an offset on."""

    def next_append(self, now_s: float) -> float:
        """Return the virtual time of the next record; infinity if that is not known."""


class Members(ABC):
    """Who is in a group: members whose heartbeats have not stopped."""

    def __init__(self, kafka: Kafka) -> None:
        self.kafka = kafka
        self._members: dict[str, float] = {}

    @abstractmethod
    def rebalance(self) -> None:
        """Deal the partitions anew."""

    def remove(self, member: str) -> None:
        if self._members.pop(member, None) is not None:
            self.rebalance()

    async def expire_members(self) -> None:
        """Remove members whose heartbeats have stopped, for ever."""
        while True:
            await self.kafka.pause(EXPIRY_S)
            now = self._now_s()
            for member in [m for m, beat in self._members.items() if now - beat > SESSION_TIMEOUT_S]:
                self.remove(member)

    def _now_s(self) -> float:
        return self.kafka.timeline.awake(self.kafka.loop.time())


class Group(Members):
    """A topic and its group; `again` draws which rebalances are repeated at once and cancel claims."""

    def __init__(
        self,
        kafka: Kafka,
        topic: str,
        topic_id: str,
        logs: Sequence[Log],
        check_commit: Callable[[int, int], None] = lambda partition, offset: None,
        again: Random | None = None,
    ) -> None:
        super().__init__(kafka)
        self.topic, self.topic_id = topic, topic_id
        self.committed: dict[int, int] = {}
        self._logs = logs
        self._check_commit = check_commit
        self.rng, self.again = kafka.rng, again
        self._generation = 0
        self._assigned: dict[str, frozenset[int]] = {}

    def describe(self) -> TopicState:
        now = self.kafka.loop.time()
        visible = {log.partition: log.visible(now) for log in self._logs}
        end = {partition: records[-1].offset + 1 if records else 0 for partition, records in visible.items()}
        if self.kafka.strikes(faults.BROKER_SLOW):  # others may fold records meanwhile that this state does not know
            self.kafka.loop.spend(self.rng.uniform(0.0, SLOW_DESCRIBE_S))
        return TopicState(self.topic, self.topic_id, dict.fromkeys(end, 0), end, dict(self.committed))

    async def fetch(
        self, positions: Mapping[int, int], wait: Callable[[float], Awaitable[None]]
    ) -> Mapping[int, Sequence[LogRecord]]:
        """Return records from the positions on, as they are now, after the network's delay; or nothing after a wait."""
        found, now = self._found(positions), self.kafka.loop.time()
        if found:
            await asyncio.sleep(self.rng.uniform(0.0, FAST_S))
            return found
        appended = min((self._logs[partition].next_append(now) for partition in positions), default=now + FETCH_WAIT_S)
        await wait(min(self.kafka.timeline.pause_s(now, FETCH_WAIT_S), appended - now))
        return self._found(positions)

    def _found(self, positions: Mapping[int, int]) -> dict[int, Sequence[LogRecord]]:
        now = self.kafka.loop.time()
        found: dict[int, Sequence[LogRecord]] = {}
        for partition, position in positions.items():
            if self.kafka.strikes(faults.LEADER_CHANGES):  # this partition has none now; others may
                continue
            if self._logs[partition].grown_past(position, now):
                found[partition] = self._logs[partition].visible(now, position)[: self.rng.randint(1, 8)]
        return found

    async def heartbeat(self, member: str) -> Assignment:
        return await self.kafka.ask(lambda: self._beat(member))

    async def leave(self, member: str) -> None:
        await self.kafka.ask(lambda: self.remove(member))

    async def commit(self, member: str, generation: int, offsets: Mapping[int, int]) -> None:
        copy = dict(offsets)
        await self.kafka.ask(lambda: self._commit(member, generation, copy))

    def rebalance(self) -> None:
        self._generation += 1
        members, partitions = sorted(self._members), [log.partition for log in self._logs]
        self.rng.shuffle(members)
        self.rng.shuffle(partitions)
        self._assigned = {m: frozenset(partitions[at :: len(members)]) for at, m in enumerate(members)}
        dealt = ", ".join(f"{member} {sorted(self._assigned[member])}" for member in sorted(members))
        self.kafka.history.note("group", f"generation {self._generation} of {self.topic}: {dealt or 'empty'}")

    def _beat(self, member: str) -> Assignment:
        known = member in self._members
        self._members[member] = self._now_s()
        if not known:
            self.rebalance()
        return self._generation, self._assigned[member]

    def _commit(self, member: str, generation: int, offsets: Mapping[int, int]) -> None:
        if generation == self._generation and member in self._members:
            taken = {p: at for p, at in offsets.items() if p in self._assigned[member]}
            self.committed |= taken
            for p, at in taken.items():
                self._check_commit(p, at)
