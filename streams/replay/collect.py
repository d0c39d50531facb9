"""Removing namespaces that nobody needs any more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from streams.folds.partition import HASHES, SCORE_SETS
from streams.learner.partition import LEARNER, SNAPSHOTS
from streams.offline.sources import Sources
from streams.store.keys import default_namespace, learner_prefix
from streams.store.namespaces import former_namespaces, live_namespace, remove
from streams.store.records import NamespaceRecord, NamespaceRecords


async def collect(sources: Sources, *, everything: bool = False) -> list[str]:
    """Remove what is neither live, nor under way, nor to go back to; return the namespaces that went.

    Parameters
    ----------
    everything : bool
        Whether the one to go back to and replays that are not finished go too.
    """
    prefix = sources.settings.topic_prefix
    gone = await _collect(sources.redis, prefix, sources.state.end, (*HASHES, *SCORE_SETS), everything=everything)
    models = await _collect(sources.redis, learner_prefix(prefix), [0], (LEARNER, SNAPSHOTS), everything=everything)
    return gone + models


async def _collect(
    redis: Any, prefix: str, partitions: Iterable[int], collections: Sequence[str], *, everything: bool
) -> list[str]:
    records = NamespaceRecords(redis, prefix)
    known = await records.all()
    former = await former_namespaces(redis, prefix)
    live = await live_namespace(redis, prefix)
    gone = []
    for namespace in superfluous(live, former, known, default_namespace(prefix), everything=everything):
        if await remove(redis, prefix, namespace, partitions, collections):
            gone.append(namespace)
        for record in known:
            if record.namespace == namespace:
                await records.remove(record.id)
    return gone


def superfluous(
    live: str, former: list[str], known: list[NamespaceRecord], default: str, *, everything: bool
) -> list[str]:
    """Return which namespaces may go. Pure.

    Examples
    --------
    >>> superfluous("b.r2", ["b.live", "b.r1"], [], "b.live", everything=False)
    ['b.live']
    """
    keep = {live}
    if not everything:
        keep |= set(former[-1:]) | {record.namespace for record in known if not record.done}
        # finished, never swapped: it waits for its swap
        keep |= {record.namespace for record in known if record.namespace not in former}
    candidates = [default, *former, *(record.namespace for record in known)]
    return [namespace for namespace in dict.fromkeys(candidates) if namespace not in keep]
