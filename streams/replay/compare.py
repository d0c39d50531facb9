"""Compares a replayed namespace with the live one, while the live one moves on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping
from typing import NamedTuple

from schemas.topic_reader import end_offsets
from streams.offline.sources import Sources
from streams.replay.lanes import run_lanes
from streams.replay.namespace_target import NamespaceTarget
from streams.store.contents import RedisContents
from streams.store.digest import digest
from streams.store.frozen import Frozen, frozen
from streams.store.namespaces import checkpoints

LIVE_TIMEOUT_S = 10.0
_POLL_S = 0.05


class Compared(NamedTuple):
    """What came of it.

    Attributes
    ----------
    equal : bool | None
        None where it cannot be said.
    excused : collection of partition
        Those that differ, and may.
    """

    equal: bool | None
    excused: Collection[int] = ()


async def compare_with_live(
    sources: Sources, target: NamespaceTarget, namespace: str, live: str, may_differ: Collection[int] = ()
) -> Compared:
    """Compare the digests of each partition at one and the same checkpoint.

    The live partition is copied at the checkpoint where it is; the other, which nobody but this process writes, is
    folded up to just there. It cannot be said whether they are equal where the live namespace is of another topic,
    began later, or stays behind, or where they differ in partitions that may.

    Parameters
    ----------
    may_differ : collection of partition
        Listens were excluded there that the live namespace may have.

    Returns
    -------
    Compared
        Not compared where the live namespace is of another topic, began later, stays behind, or has folded records
        that the topic has lost.
    """
    excused = []
    for partition in sources.state.end:
        reached = await target.open(partition, 0)
        if not await _live_reaches(sources, live, partition, reached):
            return Compared(None)
        async with frozen(sources.redis, live, partition) as state:
            end = {partition: state.next_offset or 0}
            if not _comparable(state, sources) or await within_topic(sources, end) != end:
                return Compared(None)
            await run_lanes(sources, target, {partition: reached}, end)
            expected = await digest(state.contents, partition)
        if await digest(RedisContents(sources.redis, namespace), partition) != expected:
            if partition not in may_differ:
                return Compared(equal=False)
            excused.append(partition)
    return Compared(None, excused) if excused else Compared(equal=True)


async def within_topic(sources: Sources, checkpoints: Mapping[int, int]) -> dict[int, int]:
    """Return checkpoints of the live namespace, none past the topic's end: where it is, the topic has lost records."""
    ends: Mapping[int, int] = sources.state.end
    if any(offset > ends[partition] for partition, offset in checkpoints.items()):  # it has grown, or lost some
        ends = await asyncio.to_thread(end_offsets, sources.settings, sources.topic)
    return {partition: min(offset, ends[partition]) for partition, offset in checkpoints.items()}


def _comparable(state: Frozen, sources: Sources) -> bool:
    return state.topic_id in (None, sources.state.topic_id) and state.first_offset == 0


async def _live_reaches(sources: Sources, live: str, partition: int, offset: int) -> bool:
    give_up = time.monotonic() + LIVE_TIMEOUT_S
    while (await checkpoints(sources.redis, live, [partition]))[partition] < offset:
        if time.monotonic() > give_up:
            return False
        await asyncio.sleep(_POLL_S)
    return True
