"""The models learned again, from the training topic's first record, and compared with those that learners have."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from schemas.codec import Codec
from schemas.events import Model
from schemas.registry import codec_of
from schemas.settings import Settings
from schemas.topics import Topics
from streams.learner.sources import LearningSources
from streams.learner.stored import Learned, read_learned
from streams.offline.learner import OfflineLearner
from streams.offline.partition_log import PartitionLog
from streams.replay.errors import ReplayError
from streams.store.connect import connect_async
from streams.store.keys import learner_prefix
from streams.store.namespaces import live_namespace
from streams.store.records import NamespaceRecords, excluded_since
from streams.worker.broker import describe_topic, learner_group_of
from streams.worker.topic_state import TopicState

BATCH = 64
"""A record may hold 12,000 listens."""

Progress = Callable[[int, int], None]
"""Told how many records have been learned from since it was last told, and how many there are in all."""


@dataclass(frozen=True, slots=True)
class Relearned:
    """What came out.

    Attributes
    ----------
    next_offset : int
        Up to which record: the learner's checkpoint, or the topic's end where no learner has written anything.
    listens : int
        How many were learned from.
    missed : int
        Offsets of the listens topic that no record has brought.
    models : mapping of name to Model
        The last snapshot of each.
    live : mapping of name to Model
        The same as learners have left them in Redis.
    equals_live : bool | None
        Whether all of the state is the same, byte for byte; None where there is nothing to compare with.
    excluded_since : int
        Listens that operators excluded since the learner's namespace was begun, which may explain a difference.
    seconds : float
    """

    next_offset: int
    listens: int
    missed: int
    models: Mapping[str, Model]
    live: Mapping[str, Model]
    equals_live: bool | None
    excluded_since: int
    seconds: float


async def relearn(settings: Settings, progress: Progress = lambda records, total: None) -> Relearned:
    """Learn in memory up to the learner's checkpoint, while it goes on or not; nothing is written anywhere.

    Raises
    ------
    ReplayError
        The learner's state is of another topic, or the topic's beginning is gone.
    """
    started_s, codec, topic = time.monotonic(), codec_of(settings), Topics.of(settings).training.name
    topic_state = await asyncio.to_thread(describe_topic, settings, topic, learner_group_of(settings))
    redis = connect_async(settings)
    try:
        prefix = learner_prefix(settings.topic_prefix)
        live = await live_namespace(redis, prefix)
        learned = await read_learned(redis, settings, live)
        record = await NamespaceRecords(redis, prefix).find(live)
    finally:
        await redis.aclose()
    end = _end(topic, topic_state, learned)
    sources = await asyncio.to_thread(LearningSources, settings, codec)
    log = PartitionLog(settings, topic, 0, 0, BATCH)
    try:
        learner = OfflineLearner(sources, codec)
        await learner.learn(log, end, lambda records: progress(records, end))
    finally:
        log.close()
        sources.close()
    return Relearned(
        next_offset=end,
        listens=learner.counters.listens,
        missed=learner.counters.missed,
        models=_decoded(codec, learner.snapshots),
        live=_decoded(codec, learned.snapshots),
        equals_live=_equal(learner, learned) if learned.state else None,
        excluded_since=sum(excluded_since(record, sources.excluded).values()),
        seconds=time.monotonic() - started_s,
    )


def _end(topic: str, state: TopicState, learned: Learned) -> int:
    if state.start[0] > 0:
        raise ReplayError(f"the first {state.start[0]:,} records of {topic} are gone; nothing can be learned as it was")
    if learned.next_offset is None:
        return state.end[0]
    if learned.topic_id != state.topic_id:
        raise ReplayError(
            f"{topic} was deleted and made anew (id {state.topic_id}; the learner's state is of {learned.topic_id})"
        )
    return learned.next_offset


def _equal(learner: OfflineLearner, learned: Learned) -> bool:
    return (learner.state, learner.snapshots) == (learned.state, learned.snapshots)


def _decoded(codec: Codec, snapshots: Mapping[bytes, bytes]) -> dict[str, Model]:
    return {name.decode(): codec.decode(record, Model) for name, record in sorted(snapshots.items())}
