"""Namespaces: replay into a new one next to the live one, compare, swap, roll back, list, collect garbage."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from botify.core.kafka.admin import end_offsets
from botify.core.settings import MOST_SHARDS
from botify.schemas.topics import Topics
from botify.streams.folds.partition import FORMER_HASHES, HASHES, SCORE_SETS
from botify.streams.learner.partition import LEARNER, SNAPSHOTS
from botify.streams.replay.sources import Pacer, Plan, ReplayError, ReplaySources
from botify.streams.replay.targets import (
    NamespaceTarget,
    Progress,
    check_sessions_topic,
    sessions_sent_to,
    write_partitions,
)
from botify.streams.store.keys import default_namespace, feedback_of, learner_prefix
from botify.streams.store.namespaces import (
    NamespaceRecord,
    NamespaceRecords,
    checkpoints,
    excluded_since,
    former_namespaces,
    live_namespace,
    make_live,
    remove,
)
from botify.streams.store.redis_store import RedisContents, point_in_time_copy
from botify.streams.verify import have_same_items
from botify.streams.worker.folding import by_feedback

LIVE_TIMEOUT_S = 10.0
CLOSE_ENOUGH = 1000  # records that a namespace may lag when it becomes live; the workers fold them at once
POLL_S = 0.05
_ROUNDS = 20
NOTHING: Mapping[int, int] = MappingProxyType({})


class Compared(NamedTuple):
    """The result of a comparison."""

    equal: bool | None  # None if they cannot be compared
    # partitions that differ, and how many listens one of the two has left out
    excused: Mapping[int, int] = NOTHING


async def compare_with_live(
    sources: ReplaySources, target: NamespaceTarget, namespace: str, live: str, may_differ: Mapping[int, int]
) -> Compared:
    """Compare all items of each partition at one and the same checkpoint of the live one.

    The live namespace may have the excluded listens of `may_differ`. `equal` is None if it is of another topic, began
    later, stays behind, or has folded records that the topic has lost, or if only excused partitions differ.
    """
    excused = {}
    for partition in sources.state.end:
        reached = await target.open(partition, 0)
        if await _ahead_of(sources, live, {partition: reached}):
            return Compared(None)
        async with point_in_time_copy(sources.redis, live, partition) as state:
            end = {partition: state.next_offset or 0}
            is_of_topic = state.topic_id in (None, sources.state.topic_id) and state.first_offset == 0
            if not is_of_topic or await within_topic(sources, end) != end:
                return Compared(None)
            await write_partitions(sources, target, {partition: reached}, end)
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


async def _ahead_of(
    sources: ReplaySources, live: str, folded: Mapping[int, int], committed: Mapping[int, int] = NOTHING
) -> int:
    """Wait until the live namespace, or what was committed, is as far; return how many records it still lacks then."""
    give_up = time.monotonic() + LIVE_TIMEOUT_S
    while True:
        reached = await checkpoints(sources.redis, live, folded)
        ahead = sum(max(0, at - max(reached[p], committed.get(p, 0))) for p, at in folded.items())
        if not ahead or time.monotonic() > give_up:
            return ahead
        await asyncio.sleep(POLL_S)


async def begin_namespace(sources: ReplaySources, plan: Plan, sessions_to: str | None = None) -> NamespaceRecord:
    """Write the record of a replay; raises `ReplayError` if the topic of its closed sessions is not suitable."""
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
    """Fold the feedback into the opinions of a namespace, as far as the workers have folded it; can be called again."""
    if (feedback := sources.feedback) is None:
        return
    start, committed = feedback.state.start, feedback.state.committed
    folded = await checkpoints(sources.redis, feedback_of(live), start)
    # where the live state is lost, what the group has committed was folded
    end = await within_topic(feedback, {p: max(at, committed.get(p, 0)) for p, at in folded.items()})
    target = NamespaceTarget(feedback, feedback_of(namespace), folding=by_feedback)
    for partition, offset in start.items():
        await target.prepare(partition, offset, even_at_0=True)  # the first feedback may come before a swap
    await write_partitions(feedback, target, start, end)


async def fold_into_namespace(
    sources: ReplaySources,
    record: NamespaceRecord,
    pacer: Pacer | None = None,
    progress: Progress = lambda offsets: None,
) -> NamespaceRecord:
    """Fold up to the planned end, and compare with the live namespace; an interrupted replay is resumed.

    Raises `ReplayError` if the namespace is the live one, or listens were excluded since it was begun.
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
        await write_partitions(sources, target, record.start, record.end, pacer, progress)
        await fold_feedback(sources, record.namespace, live)
        if not record.partial:
            left_out = excluded_since(await records.find(live), record.excluded)
            equal, excused = await compare_with_live(sources, target, record.namespace, live, left_out)
            record = record.with_(equals_live=equal, left_out=sum(excused.values()))
    record = record.with_(done=True)
    await records.put(record)
    return record


async def swap(sources: ReplaySources, id_: str, *, force: bool = False) -> str:
    """Let a namespace catch up with the live one, then make it live; return the former live namespace.

    Within a second, workers claim their partitions in it at its own checkpoints, so no record is lost or folded twice.
    `force` accepts one that is partial, differs from the live one, has listens excluded since, or is ahead of workers.
    Raises `ReplayError` if it is not suitable, cannot catch up, or another swap came first.
    """
    prefix = sources.settings.topic_prefix
    record = await NamespaceRecords(sources.redis, prefix).get(id_)
    live = await live_namespace(sources.redis, prefix)
    excluded = sum(excluded_since(record, sources.excluded).values())
    if reason := validate_swap(record, live, force=force, excluded=excluded):
        raise ReplayError(f"{record.id} does not become the live namespace: {reason}")
    await fold_feedback(sources, record.namespace, live)
    with sessions_sent_to(sources.settings, record.sessions_to) as publisher:
        target = NamespaceTarget(sources, record.namespace, publisher=publisher)
        folded = await _catch_up(sources, target, record.namespace, live)
    if not force and record.id.startswith("r"):  # what a snapshot has was published before it was saved
        await _wait_for_workers(sources, live, folded)
    await swap_pointer(sources.redis, prefix, live, record.namespace)
    return live


async def rollback(sources: ReplaySources) -> str:
    """Make the former live namespace live again, after it has caught up; return it. Raises as `swap`."""
    prefix = sources.settings.topic_prefix
    former, live = await former_and_live(sources.redis, prefix)
    record = await NamespaceRecords(sources.redis, prefix).find(former)
    if (record.layout if record else "") != sources.settings.layout:
        raise ReplayError(
            f"{former} is the fold of another topic, from which the listens have moved to {sources.topic}; "
            "there is no way back to it. `botify replay run` makes another namespace of this topic"
        )
    await fold_feedback(sources, former, live)
    await _catch_up(sources, NamespaceTarget(sources, former), former, live)
    await swap_pointer(sources.redis, prefix, live, former, back=True)
    return former


def validate_swap(record: NamespaceRecord, live: str, *, force: bool, excluded: int = 0) -> str | None:
    """Return why a namespace cannot become live, None if it can; listens were `excluded` since it was begun. Pure."""
    if record.namespace == live:
        return "it is that already"
    if not record.done:
        return f"it is not finished; `botify replay run --id {record.id}` resumes it"
    if any("left out" in reason for reason in record.partial):
        return f"{'; '.join(record.partial)}. Replay everything into a new namespace"
    if force:
        return None
    if record.partial:
        return f"{'; '.join(record.partial)}, so counts and scores are too low. --force takes it as it is"
    if excluded:
        return (
            f"{excluded:,} listens were excluded since it was begun, and it may have them. `botify replay run` makes "
            "another without them; --force takes this as it is"
        )
    if record.equals_live is False:
        return "it differs from the live state (`botify verify` says which is right). --force takes it as it is"
    return None


async def _catch_up(sources: ReplaySources, target: NamespaceTarget, namespace: str, live: str) -> Mapping[int, int]:
    partitions = sources.state.end.keys()
    for _ in range(_ROUNDS):
        own = {partition: await target.open(partition, 0) for partition in partitions}
        end = await within_topic(sources, await checkpoints(sources.redis, live, partitions))
        await write_partitions(sources, target, own, end)
        if sum(max(0, end[partition] - own[partition]) for partition in partitions) <= CLOSE_ENOUGH:
            return {partition: max(own[partition], end[partition]) for partition in partitions}
    raise ReplayError(f"{namespace} does not catch up with {live}, which advances too fast; slow the producers down")


async def _wait_for_workers(sources: ReplaySources, live: str, folded: Mapping[int, int]) -> None:
    # the state may be lost, but what the group has committed was published
    if ahead := await _ahead_of(sources, live, folded, sources.state.committed):
        raise ReplayError(
            f"no worker has folded {ahead:,} of the records that the namespace has, so their sessions, training "
            "batches and dead letters would never be published; let the workers catch up. --force takes it as it is"
        )


async def former_and_live(redis: Any, prefix: str) -> tuple[str, str]:
    """Return the namespace to roll back to, and the live one; raises `ReplayError` if there is none."""
    former = await former_namespaces(redis, prefix)
    if not former:
        raise ReplayError(
            "there is no former namespace to roll back to: none was swapped in, or `replay status --gc` removed it"
        )
    return former[-1], await live_namespace(redis, prefix)


async def swap_pointer(redis: Any, prefix: str, live: str, new: str, *, back: bool = False) -> None:
    """Make a namespace of listens or models live; raises `ReplayError` if another swap came first."""
    if (now := await make_live(redis, prefix, live, new, back=back)) != new:
        raise ReplayError(f"{now} became the live namespace in the meantime; look at `botify replay status`")


@dataclass(frozen=True, slots=True)
class NamespaceStatus:
    """The status of a namespace."""

    namespace: str
    role: str  # `live`, `former` (the target of `rollback`), `older`, `ready`, `partial` or `unfinished`
    folded: int  # sum of the checkpoints
    behind: int  # records that it has not folded, of listens and feedback
    record: NamespaceRecord | None  # None for a deployment's first namespace


async def read_status(sources: ReplaySources) -> list[NamespaceStatus]:
    """Return all namespaces, oldest first; those of the learner follow, once models were rebuilt."""
    prefix = sources.settings.topic_prefix
    said = {} if sources.feedback is None else sources.feedback.state.end
    found = await _read_status(sources.redis, prefix, sources.state.end, said)
    learner = learner_prefix(prefix)
    if await NamespaceRecords(sources.redis, learner).all():
        end = await asyncio.to_thread(end_offsets, sources.settings, Topics.of(sources.settings).training.name)
        found += await _read_status(sources.redis, learner, end, {})
    return found


async def _read_status(
    redis: Any, prefix: str, end: Mapping[int, int], said: Mapping[int, int]
) -> list[NamespaceStatus]:
    live = await live_namespace(redis, prefix)
    former = await former_namespaces(redis, prefix)
    known = {record.namespace: record for record in await NamespaceRecords(redis, prefix).all()}
    found = []
    for namespace in dict.fromkeys([default_namespace(prefix), *former, *known, live]):
        folded = await checkpoints(redis, namespace, end)
        record = known.get(namespace)
        if namespace != live and record is None and not any(folded.values()):
            continue
        found.append(
            NamespaceStatus(
                namespace=namespace,
                role=_role(namespace, live, former, record),
                folded=sum(folded.values()),
                behind=_behind(end, folded) + _behind(said, await checkpoints(redis, feedback_of(namespace), said)),
                record=record,
            )
        )
    return found


def _behind(end: Mapping[int, int], folded: Mapping[int, int]) -> int:
    return sum(max(0, end[partition] - folded[partition]) for partition in end)


def _role(namespace: str, live: str, former: list[str], record: NamespaceRecord | None) -> str:
    if namespace == live:
        return "live"
    if former and namespace == former[-1]:
        return "former"
    if record is None or namespace in former:
        return "older"
    if not record.done:
        return "unfinished"
    return "partial" if record.partial else "ready"


async def collect(sources: ReplaySources, *, everything: bool = False) -> list[str]:
    """Delete namespaces but the live one, a rollback's target and those that wait for a swap; or all but the live."""
    prefix = sources.settings.topic_prefix
    gone = await _collect(
        sources.redis, prefix, sources.state.end, (*HASHES, *FORMER_HASHES, *SCORE_SETS), everything=everything
    )
    models = await _collect(
        sources.redis, learner_prefix(prefix), range(MOST_SHARDS), (LEARNER, SNAPSHOTS), everything=everything
    )
    return gone + models


async def _collect(
    redis: Any, prefix: str, partitions: Iterable[int], collections: Sequence[str], *, everything: bool
) -> list[str]:
    records = NamespaceRecords(redis, prefix)
    known = await records.all()
    former = await former_namespaces(redis, prefix)
    live = await live_namespace(redis, prefix)
    partitions = range(max([*partitions, *((record.partitions or 0) - 1 for record in known)]) + 1)  # of any layout
    gone = []
    for namespace in removable(live, former, known, default_namespace(prefix), everything=everything):
        if await remove(redis, prefix, namespace, partitions, collections):
            gone.append(namespace)
        for record in known:
            if record.namespace == namespace:
                await records.remove(record.id)
    return gone


def removable(
    live: str, former: list[str], known: list[NamespaceRecord], default: str, *, everything: bool
) -> list[str]:
    """Return which namespaces may be deleted. Pure."""
    keep = {live}
    if not everything:
        # what is unfinished, or was never swapped in, waits for that
        waiting = {record.namespace for record in known if not record.done or record.namespace not in former}
        keep |= {*former[-1:], *waiting}
    candidates = [default, *former, *(record.namespace for record in known)]
    return [namespace for namespace in dict.fromkeys(candidates) if namespace not in keep]
