"""A replay into a namespace of its own, beside the live one."""

from __future__ import annotations

import time

from streams.offline.sources import Sources
from streams.replay.compare import equals_live
from streams.replay.errors import ReplayError
from streams.replay.lanes import Progress, run_lanes
from streams.replay.namespace_target import NamespaceTarget
from streams.replay.pace import Pacer
from streams.replay.plan import Plan
from streams.store.namespaces import live_namespace
from streams.store.records import NamespaceRecord, NamespaceRecords


async def begin(sources: Sources, plan: Plan) -> NamespaceRecord:
    """Write down what is going to be done, so that it can be gone on with."""
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
        The namespace is the live one, which the workers write.
    """
    prefix = sources.settings.topic_prefix
    live = await live_namespace(sources.redis, prefix)
    if record.namespace == live:
        raise ReplayError(f"{record.id} is the live namespace by now, and the workers keep it up")
    target = NamespaceTarget(sources, record.namespace, record.projections)
    for partition, offset in record.start.items():
        await target.prepare(partition, offset)
    await run_lanes(sources, target, record.start, record.end, pacer, progress)
    equal = None if record.partial else await equals_live(sources, target, record.namespace, live)
    record = record.with_(done=True, equals_live=equal)
    await NamespaceRecords(sources.redis, prefix).put(record)
    return record
