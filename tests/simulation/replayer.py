"""An operator who replays the listens into a new namespace and makes that live, again and again; the shipped replay."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from random import Random
from types import SimpleNamespace
from typing import Any
from unittest import mock

from botify.core.kafka.admin import TopicState
from botify.core.kafka.reader import LogRecord
from botify.schemas.validation import Intake
from botify.streams.replay import swap, targets
from botify.streams.replay.sources import Plan, ReplayError, ReplaySources, make_plan
from botify.streams.store import namespaces
from botify.streams.store.namespaces import NamespaceRecord, NamespaceRecords, UnknownNamespaceError
from botify.streams.worker.folding import Folding
from tests.simulation import topic
from tests.simulation.group import Group
from tests.simulation.history import History
from tests.simulation.kafka import SETTINGS
from tests.simulation.loop import Process, SimulatedLoop
from tests.simulation.redis_network import RedisClient
from tests.simulation.topic import BASE_MS, CODEC, LEAD, NAME, PARTITIONS, TRACKS

PAUSE_S = 30.0
"""The longest time between two replays."""
RESUMED, FINISHED = 0.3, 0.9
"""Share of replays that resume one, and of those that end before their namespace is swapped in."""
PARTIAL, LATE = 0.1, 5
"""Share of replays that begin late in a partition, and where; and of those that leave a partition out."""
EXCLUDING = 0.15
"""Share of replays before which an operator excludes a listen."""
ROUNDS, CLOSE_ENOUGH, LIVE_TIMEOUT_S = 2, 1, 1.0
"""Of a swap and a comparison; with the shipped values a universe would be over before they matter."""
PREFIX = SETTINGS.topic_prefix


class SimulatedReplayer:
    def __init__(
        self,
        process: Process,
        group: Group,
        client: RedisClient,
        history: History,
        rng: Random,
        begun: list[str],
        check_done: Callable[[NamespaceRecord], None],
    ) -> None:
        self.name = process.name
        self._process = process
        self.stopping = asyncio.Event()
        self._group = group
        self._client = client
        self._history = history
        self._rng = rng
        self._begun = begun
        self._check_done = check_done
        self._excluded: dict[int, int] = {}

    async def run(self) -> BaseException | None:
        task = asyncio.ensure_future(self._replay_repeatedly())
        stopped = asyncio.ensure_future(self.stopping.wait())
        await asyncio.wait([task, stopped], return_when=asyncio.FIRST_COMPLETED)
        while left := [one for one in self._process.unfinished if one is not asyncio.current_task()]:
            for one in left:  # as `asyncio.run` does, in which a command runs
                one.cancel()
            await asyncio.gather(*left, return_exceptions=True)
        await self._client.close()
        return None if task.cancelled() else task.exception()

    async def _replay_repeatedly(self) -> None:
        while not self.stopping.is_set():  # redis-py may swallow the cancellation, and a command ends by itself
            await self._group.kafka.pause(self._rng.uniform(0.0, PAUSE_S))
            try:
                await self._replay()
            except (ReplayError, UnknownNamespaceError) as refused:  # a rolled-back store forgets records
                self._history.note(self.name, f"refused: {refused}")

    async def _replay(self) -> None:
        state: TopicState = await asyncio.to_thread(self._group.describe)
        sources = ReplaySources(
            SETTINGS, NAME, state, Intake(CODEC, TRACKS, lead=LEAD), self._excluded, self._client.redis
        )
        if self._rng.random() < EXCLUDING:
            partition = self._rng.randrange(PARTITIONS)
            self._excluded[partition] = self._excluded.get(partition, 0) + 1
        if self._begun and self._rng.random() < RESUMED:
            record = await NamespaceRecords(self._client.redis, PREFIX).get(self._rng.choice(self._begun))
        else:
            record = await swap.begin_namespace(sources, self._plan(state))
            self._begun.append(record.id)
        self._history.note(self.name, f"replays into {record.id} to {dict(record.end)}")
        if self._rng.random() < FINISHED:
            record = await swap.fold_into_namespace(sources, record)
            self._check_done(record)
        await asyncio.sleep(self._rng.choice([0.0, self._rng.uniform(0.0, PAUSE_S)]))
        if self._rng.random() < 0.3:
            await swap.rollback(sources)
            self._history.note(self.name, "rolled back")
        else:
            left_out = any("left out" in reason for reason in record.partial)  # which not even --force takes
            await swap.swap(sources, record.id, force=left_out)
            self._history.note(self.name, f"swapped {record.id} in, which equals the former: {record.equals_live}")

    def _plan(self, state: TopicState) -> Plan:
        start = dict(state.start)
        partitions = None
        if self._rng.random() < PARTIAL:
            partition = self._rng.randrange(PARTITIONS)
            start[partition] = min(LATE, state.end[partition])
        if self._rng.random() < PARTIAL:
            partitions = self._rng.sample(range(PARTITIONS), PARTITIONS - 1)
        return make_plan(NAME, state, start, state.end, partitions)


def replay_patches(
    loop: SimulatedLoop, group: Group, logs: Sequence[topic.PartitionLog], folding: Callable[[], Folding]
) -> AbstractContextManager[object]:
    class Log:
        def __init__(self, settings: Any, name: str, partition: int, start: int) -> None:
            self._log, self._start = logs[partition], start

        async def read_ahead(self, end: int) -> AsyncGenerator[list[LogRecord], None]:
            records = [one for one in self._log.visible(loop.time(), self._start) if one.offset < end]
            for at in range(0, len(records), 5):
                await asyncio.sleep(0)
                yield list(records[at : at + 5])

        async def aclose(self) -> None:
            """Do nothing."""

    clock = SimpleNamespace(time=lambda: BASE_MS / 1000 + loop.time(), monotonic=loop.time)
    stack = ExitStack()
    for owner, name, instead in (
        (targets, "ColumnLog", Log),
        (targets, "describe_topic", lambda *_: group.describe()),
        (targets, "columns_when_compiled", lambda _: folding),
        (swap, "end_offsets", lambda *_: group.describe().end),
        (swap, "time", clock),
        (swap, "LIVE_TIMEOUT_S", LIVE_TIMEOUT_S),
        (swap, "_ROUNDS", ROUNDS),
        (swap, "CLOSE_ENOUGH", CLOSE_ENOUGH),
        (namespaces, "time", clock),
    ):
        stack.enter_context(mock.patch.object(owner, name, instead))
    return stack
