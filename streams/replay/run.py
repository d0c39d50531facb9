"""Replay into a new namespace beside the live one, and compare the two."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from botify.core.kafka.admin import end_offsets
from botify.streams.replay.sources import Pacer, Plan, ReplayError, ReplaySources
from botify.streams.replay.targets import NamespaceTarget, Progress, check_sessions_topic, run_lanes, sessions_sent_to
from botify.streams.store.keys import feedback_of
from botify.streams.store.namespaces import (
    NamespaceRecord,
    NamespaceRecords,
    checkpoints,
    excluded_since,
    live_namespace,
)
from botify.streams.store.redis_store import PartitionCopy, RedisContents, have_same_items, point_in_time_copy
from botify.streams.worker.folding import by_feedback

LIVE_TIMEOUT_S = 10.0
_POLL_S = 0.05


class Compared(NamedTuple):
    """The result of a comparison.

    Attributes
    ----------
    equal : bool | None
        None if they cannot be compared.
    excused : mapping of partition to int
        Partitions that differ, and how many listens one of the two has left out.
    """

    equal: bool | None
    excused: Mapping[int, int] = MappingProxyType({})


async def compare_with_live(
    sources: ReplaySources, target: NamespaceTarget, namespace: str, live: str, may_differ: Mapping[int, int]
) -> Compared:
    """Compare all items of each partition at one and the same checkpoint.

    The live partition is copied at its checkpoint; the other, which only this process writes, is folded up to it.

    `may_differ`: excluded listens that the live namespace may have. Returns `equal` is None if the live namespace is of
    another topic, began later, stays behind, or has folded records that the topic has lost, or if only excused
    partitions differ.
    """
    excused = {}
    for partition in sources.state.end:
        reached = await target.open(partition, 0)
        if not await _live_reaches(sources, live, partition, reached):
            return Compared(None)
        async with point_in_time_copy(sources.redis, live, partition) as state:
            end = {partition: state.next_offset or 0}
            if not _comparable(state, sources) or await within_topic(sources, end) != end:
                return Compared(None)
            await run_lanes(sources, target, {partition: reached}, end)
            replayed = RedisContents(sources.redis, namespace)
            equal = await have_same_items(state.contents, replayed, partition)
        if not equal:
            erased = sources.erased(partition, state.letters) ^ sources.erased(partition, sources.begun[partition])
            if not (left_out := may_differ.get(partition, 0) + len(erased)):
                return Compared(equal=False)
            excused[partition] = left_out
    return Compared(None, excused) if excused else Compared(equal=True)


async def within_topic(sources: ReplaySources, checkpoints: Mapping[int, int]) -> dict[int, int]:
    """Return checkpoints of the live namespace, at most the topic's end: after it, the topic has lost records."""
    ends: Mapping[int, int] = sources.state.end
    if any(offset > ends[partition] for partition, offset in checkpoints.items()):  # it has grown, or lost some
        ends = await asyncio.to_thread(end_offsets, sources.settings, sources.topic)
    return {partition: min(offset, ends[partition]) for partition, offset in checkpoints.items()}


def _comparable(state: PartitionCopy, sources: ReplaySources) -> bool:
    return state.topic_id in (None, sources.state.topic_id) and state.first_offset == 0


async def _live_reaches(sources: ReplaySources, live: str, partition: int, offset: int) -> bool:
    give_up = time.monotonic() + LIVE_TIMEOUT_S
    while (await checkpoints(sources.redis, live, [partition]))[partition] < offset:
        if time.monotonic() > give_up:
            return False
        await asyncio.sleep(_POLL_S)
    return True


async def begin_namespace(sources: ReplaySources, plan: Plan, sessions_to: str | None = None) -> NamespaceRecord:
    """Write the record of a replay, so that it can be resumed.

    `sessions_to`: topic for closed sessions; without it they are not published. Raises `ReplayError`: that topic is not
    suitable.
    """
    if sessions_to is not None:
        await asyncio.to_thread(check_sessions_topic, sources.settings, sessions_to)
    records = NamespaceRecords(sources.redis, sources.settings.topic_prefix)
    return await records.begin(
        "r",
        start=plan.start,
        end=plan.end,
        projections=plan.projections,
        partial=plan.partial,
        excluded=dict(sources.excluded),
        sessions_to=sessions_to,
        layout=sources.settings.layout,
        partitions=len(sources.state.end),
    )


async def fold_feedback(sources: ReplaySources, namespace: str, live: str) -> None:
    """Fold the feedback into the opinions of a namespace, as far as the workers have folded it.

    No further, since only workers publish its dead letters. It continues what is there, so it can be called again.
    """
    if (feedback := sources.feedback) is None:
        return
    start, committed = feedback.state.start, feedback.state.committed
    folded = await checkpoints(sources.redis, feedback_of(live), start)
    # where the live state is lost, what the group has committed was folded
    end = await within_topic(feedback, {p: max(at, committed.get(p, 0)) for p, at in folded.items()})
    target = NamespaceTarget(feedback, feedback_of(namespace), folding=by_feedback)
    for partition, offset in start.items():
        await target.prepare(partition, offset, even_at_0=True)  # the first feedback may come before a swap
    await run_lanes(feedback, target, start, end)


async def fold_into_namespace(
    sources: ReplaySources,
    record: NamespaceRecord,
    pacer: Pacer | None = None,
    progress: Progress = lambda offsets: None,
) -> NamespaceRecord:
    """Fold up to the planned end, and compare with the live namespace; an interrupted replay is resumed.

    Raises `ReplayError`: the namespace is the live one, or listens were excluded since it was begun.
    """
    prefix = sources.settings.topic_prefix
    live = await live_namespace(sources.redis, prefix)
    if record.namespace == live:
        raise ReplayError(f"{record.id} is the live namespace now, and workers keep it up to date")
    if more := sum(excluded_since(record, sources.excluded).values()):
        raise ReplayError(
            f"{more:,} listens were excluded since {record.id} was begun, which may contain them; start a new one: "
            "`botify replay run`"
        )
    records = NamespaceRecords(sources.redis, prefix)
    with sessions_sent_to(sources.settings, record.sessions_to) as publisher:
        target = NamespaceTarget(sources, record.namespace, record.projections, publisher)
        for partition, offset in record.start.items():
            await target.prepare(partition, offset)
        await run_lanes(sources, target, record.start, record.end, pacer, progress)
        await fold_feedback(sources, record.namespace, live)
        if not record.partial:
            left_out = excluded_since(await records.find(live), record.excluded)
            equal, excused = await compare_with_live(sources, target, record.namespace, live, left_out)
            record = record.with_(equals_live=equal, left_out=sum(excused.values()))
    record = record.with_(done=True)
    await records.put(record)
    return record
