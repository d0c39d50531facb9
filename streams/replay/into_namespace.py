"""A replay into a namespace of its own, beside the live one."""

from __future__ import annotations

import asyncio
import time

from streams.offline.sources import Sources
from streams.replay.compare import compare_with_live
from streams.replay.errors import ReplayError
from streams.replay.lanes import Progress, run_lanes
from streams.replay.namespace_target import NamespaceTarget
from streams.replay.pace import Pacer
from streams.replay.plan import Plan
from streams.replay.sessions_topic import check_sessions_topic, sessions_sent_to
from streams.store.namespaces import live_namespace
from streams.store.records import NamespaceRecord, NamespaceRecords, excluded_since


async def begin(sources: Sources, plan: Plan, sessions_to: str | None = None) -> NamespaceRecord:
    """Write down what is going to be done, so that it can be gone on with.

    Parameters
    ----------
    sessions_to : str, optional
        Topic for the sessions that close; without it they are not sent.

    Raises
    ------
    ReplayError
        That topic cannot take them.
    """
    if sessions_to is not None:
        await asyncio.to_thread(check_sessions_topic, sources.settings, sessions_to)
    records = NamespaceRecords(sources.redis, sources.settings.topic_prefix)
    id_ = await records.new_id("r")
    record = NamespaceRecord(
        id=id_,
        namespace=records.namespace(id_),
        created_ms=int(time.time() * 1000),
        start=plan.start,
        end=plan.end,
        projections=plan.projections,
        partial=plan.partial,
        excluded=dict(sources.excluded),
        sessions_to=sessions_to,
    )
    await records.put(record)
    return record


async def run(
    sources: Sources, record: NamespaceRecord, pacer: Pacer | None = None, progress: Progress = lambda offsets: None
) -> NamespaceRecord:
    """Fold up to the end that was planned, and compare with the live namespace; goes on where an earlier try ended.

    Raises
    ------
    ReplayError
        The namespace is the live one, which the workers write; or listens were excluded since it was begun.
    """
    prefix = sources.settings.topic_prefix
    live = await live_namespace(sources.redis, prefix)
    if record.namespace == live:
        raise ReplayError(f"{record.id} is the live namespace by now, and the workers keep it up")
    if more := sum(excluded_since(record, sources.excluded).values()):
        raise ReplayError(
            f"{more:,} listens were excluded since {record.id} was begun, which may have them already; begin another: "
            "`botify replay run`"
        )
    records = NamespaceRecords(sources.redis, prefix)
    with sessions_sent_to(sources.settings, record.sessions_to) as emits:
        target = NamespaceTarget(sources, record.namespace, record.projections, emits)
        for partition, offset in record.start.items():
            await target.prepare(partition, offset)
        await run_lanes(sources, target, record.start, record.end, pacer, progress)
        if not record.partial:
            left_out = excluded_since(await records.find(live), record.excluded)
            equal, excused = await compare_with_live(sources, target, record.namespace, live, left_out)
            record = record.with_(equals_live=equal, left_out=sum(left_out[partition] for partition in excused))
    record = record.with_(done=True)
    await records.put(record)
    return record
