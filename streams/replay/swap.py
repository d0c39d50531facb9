"""Making another namespace the live one, and going back."""

from __future__ import annotations

from streams.offline.sources import Sources
from streams.replay.compare import within_topic
from streams.replay.errors import ReplayError
from streams.replay.lanes import run_lanes
from streams.replay.namespace_target import NamespaceTarget
from streams.replay.sessions_topic import sessions_sent_to
from streams.store.namespaces import checkpoints, former_namespaces, live_namespace, make_live
from streams.store.records import NamespaceRecord, NamespaceRecords, excluded_since

CLOSE_ENOUGH = 1000
"""Records that a namespace may be behind when it becomes the live one; the workers fold them in a moment."""

_ROUNDS = 20


async def swap(sources: Sources, id_: str, *, force: bool = False) -> str:
    """Let a namespace catch up with the live one, then make it that; return the former live namespace.

    Workers claim their partitions in it, at its own checkpoints, within a second: what was folded here is not folded
    again, and what was not is.

    Parameters
    ----------
    force : bool
        Whether one that began late, that differs from the live one, or that has what was excluded since, will do.

    Raises
    ------
    ReplayError
        It is not fit to be the live namespace, cannot catch up, or another swap was faster.
    """
    prefix = sources.settings.topic_prefix
    record = await NamespaceRecords(sources.redis, prefix).get(id_)
    live = await live_namespace(sources.redis, prefix)
    excluded = sum(excluded_since(record, sources.excluded).values())
    if reason := why_not(record, live, force=force, excluded=excluded):
        raise ReplayError(f"{record.id} does not become the live namespace: {reason}")
    with sessions_sent_to(sources.settings, record.sessions_to) as emits:
        await _catch_up(sources, NamespaceTarget(sources, record.namespace, emits=emits), record.namespace, live)
    await _point(sources, live, record.namespace, back=False)
    return live


async def rollback(sources: Sources) -> str:
    """Make the former live namespace that again, after it has caught up; return it.

    Raises
    ------
    ReplayError
        There is none, it cannot catch up, or another swap was faster.
    """
    prefix = sources.settings.topic_prefix
    former = await former_namespaces(sources.redis, prefix)
    if not former:
        raise ReplayError("there is no former namespace to go back to: none was swapped, or `replay gc` removed it")
    live = await live_namespace(sources.redis, prefix)
    await _catch_up(sources, NamespaceTarget(sources, former[-1]), former[-1], live)
    await _point(sources, live, former[-1], back=True)
    return former[-1]


def why_not(record: NamespaceRecord, live: str, *, force: bool, excluded: int = 0) -> str | None:
    """Return why a namespace cannot become the live one, or None. Pure.

    Parameters
    ----------
    excluded : int
        Listens that were excluded since it was begun.
    """
    if record.namespace == live:
        return "it is that already"
    if not record.done:
        return f"it is not finished; `botify replay run --id {record.id}` goes on with it"
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


async def _catch_up(sources: Sources, target: NamespaceTarget, namespace: str, live: str) -> None:
    """Fold until the namespace is nearly where the live one is."""
    partitions = sources.state.end.keys()
    for _ in range(_ROUNDS):
        own = {partition: await target.open(partition, 0) for partition in partitions}
        end = await within_topic(sources, await checkpoints(sources.redis, live, partitions))
        await run_lanes(sources, target, own, end)
        if sum(max(0, end[partition] - own[partition]) for partition in partitions) <= CLOSE_ENOUGH:
            return
    raise ReplayError(f"{namespace} does not catch up with {live}, which moves on too fast; slow the producers down")


async def _point(sources: Sources, live: str, new: str, *, back: bool) -> None:
    now = await make_live(sources.redis, sources.settings.topic_prefix, live, new, back=back)
    if now != new:
        raise ReplayError(f"{now} became the live namespace in the meantime; look at `botify replay status`")
