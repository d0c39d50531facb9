"""What learners have left in Redis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from schemas.settings import Settings
from streams.learner.partition import LEARNER, SNAPSHOTS
from streams.store.keys import checkpoint_key, learner_prefix, partition_key
from streams.store.namespaces import live_namespace


@dataclass(frozen=True, slots=True)
class Learned:
    """A learner's state at its checkpoint.

    Attributes
    ----------
    next_offset : int | None
        Up to which record of the training topic it has learned; None where no learner has written anything.
    topic_id : str | None
        Of the topic that it has learned from.
    state : mapping of field to value
        See `Learner.state`.
    snapshots : mapping of model's name to record
        As on the models topic.
    """

    next_offset: int | None
    topic_id: str | None
    state: Mapping[bytes, bytes]
    snapshots: Mapping[bytes, bytes]


async def read_learned(redis: Any, settings: Settings, namespace: str | None = None) -> Learned:
    """Read all of it, in one transaction.

    Parameters
    ----------
    redis : redis.asyncio.Redis or RedisCluster
        With raw replies.
    namespace : str, optional
        By default the live one.
    """
    namespace = namespace or await live_namespace(redis, learner_prefix(settings.topic_prefix))
    async with redis.pipeline(transaction=True) as pipeline:
        pipeline.hmget(checkpoint_key(namespace, 0), ["next_offset", "topic_id"])
        for collection in (LEARNER, SNAPSHOTS):
            pipeline.hgetall(partition_key(namespace, 0, collection))
        (next_offset, topic_id), state, snapshots = await pipeline.execute()
    return Learned(
        None if next_offset is None else int(next_offset),
        None if topic_id is None else topic_id.decode(),
        state,
        snapshots,
    )
