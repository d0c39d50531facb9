"""Partitions side by side: while one waits for Redis or the brokers, another is worked on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Protocol

from streams.offline.partition_log import LogRecord, PartitionLog
from streams.offline.sources import Sources
from streams.replay.pace import Pacer

LANES = 4
"""Partitions under way at a time; each holds a consumer with its prefetched records."""

Progress = Callable[[int], None]
"""Told how many offsets have been worked off since it was last told."""


class Target(Protocol):
    """Where the records of a replay go."""

    async def open(self, partition: int, start: int) -> int:
        """Return the offset to go on from: `start`, or a later one where an earlier try came further."""

    async def write(self, partition: int, records: Sequence[LogRecord]) -> None:
        """Take records in, and return when they are safe."""


async def run_lanes(
    sources: Sources,
    target: Target,
    start: Mapping[int, int],
    end: Mapping[int, int],
    pacer: Pacer | None = None,
    progress: Progress = lambda offsets: None,
) -> None:
    """Send what lies between start and end to the target; each partition in order."""
    pace = pacer or Pacer()
    # paced by the records' times, all partitions go along together
    free = asyncio.Semaphore(len(end) if pace.by_time else LANES)

    async def lane(partition: int) -> None:
        async with free:
            await _run_lane(sources, target, partition, start[partition], end[partition], pace, progress)

    lanes = [asyncio.create_task(lane(partition), name=f"replay-{partition}") for partition in end]
    try:
        await asyncio.gather(*lanes)
    finally:
        for task in lanes:
            task.cancel()
        await asyncio.gather(*lanes, return_exceptions=True)


async def _run_lane(
    sources: Sources, target: Target, partition: int, start: int, end: int, pacer: Pacer, progress: Progress
) -> None:
    begin = await target.open(partition, start)
    progress(min(begin, end) - start)
    if begin >= end:
        return
    log, reached = PartitionLog(sources.settings, sources.topic, partition, begin), begin
    try:
        async with aclosing(log.read_ahead(end)) as batches:
            async for batch in batches:
                for part in pacer.parts(batch):
                    await pacer.wait(part)
                    await target.write(partition, part)
                    progress(part[-1].offset + 1 - reached)
                    reached = part[-1].offset + 1
    finally:
        log.close()
    progress(end - reached)
