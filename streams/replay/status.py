"""Where every namespace is."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from schemas.topic_reader import end_offsets
from schemas.topics import Topics
from streams.offline.sources import Sources
from streams.store.keys import default_namespace, learner_prefix
from streams.store.namespaces import checkpoints, former_namespaces, live_namespace
from streams.store.records import NamespaceRecord, NamespaceRecords


@dataclass(frozen=True, slots=True)
class NamespaceStatus:
    """One namespace.

    Attributes
    ----------
    namespace : str
    role : str
        `live`, `former` (what `rollback` goes back to), `older`, `ready`, `partial` or `unfinished`.
    folded : int
        Sum of the checkpoints.
    behind : int
        Records of the topic that it has not folded.
    record : NamespaceRecord | None
        None of the namespace that a deployment starts with.
    """

    namespace: str
    role: str
    folded: int
    behind: int
    record: NamespaceRecord | None


async def read_status(sources: Sources) -> list[NamespaceStatus]:
    """Return all namespaces, oldest first; those that are gone are left out.

    Those of the learner follow, once models were rebuilt.
    """
    prefix = sources.settings.topic_prefix
    found = await _read_status(sources.redis, prefix, sources.state.end)
    learner = learner_prefix(prefix)
    if await NamespaceRecords(sources.redis, learner).all():
        end = await asyncio.to_thread(end_offsets, sources.settings, Topics.of(sources.settings).training.name)
        found += await _read_status(sources.redis, learner, end)
    return found


async def _read_status(redis: Any, prefix: str, end: Mapping[int, int]) -> list[NamespaceStatus]:
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
                behind=sum(max(0, end[partition] - folded[partition]) for partition in end),
                record=record,
            )
        )
    return found


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
