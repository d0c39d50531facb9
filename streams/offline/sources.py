"""What every offline fold needs: the topic as it is, the intake, a connection to Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from schemas.catalogue import CatalogueReader
from schemas.registry import codec_of
from schemas.rejected_before import RejectedBefore
from schemas.settings import Settings
from schemas.topics import Topics
from streams.store.connect import connect_async
from streams.worker.broker import describe_topic, group_of
from streams.worker.intake import Intake
from streams.worker.topic_state import TopicState


@dataclass(frozen=True, slots=True)
class Sources:
    """Open connections, and the topic as it was when they were opened.

    Attributes
    ----------
    settings : Settings
    topic : str
        Name of the listens topic.
    state : TopicState
    intake : Intake
        Decides as the workers have decided: what is a dead letter stays out.
    excluded : mapping of partition to int
        How many listens operators have excluded, which the intake leaves out (`RejectedBefore.excluded`).
    redis : redis.asyncio.Redis or RedisCluster
    """

    settings: Settings
    topic: str
    state: TopicState
    intake: Intake
    excluded: Mapping[int, int]
    redis: Any


@asynccontextmanager
async def open_sources(settings: Settings) -> AsyncIterator[Sources]:
    """Open them, and close them at the end.

    Raises
    ------
    TopicError
        The topic does not exist or no broker answers.
    """
    topic, codec = Topics.of(settings).listens.name, codec_of(settings)
    state = await asyncio.to_thread(describe_topic, settings, topic, group_of(settings))
    catalogue, rejected = CatalogueReader(settings, codec), RejectedBefore(settings, topic)
    redis = connect_async(settings)
    try:
        await asyncio.to_thread(catalogue.refresh)
        await asyncio.to_thread(rejected.refresh)
        intake = Intake(codec, catalogue.tracks, catalogue.refresh, rejected.offsets)
        yield Sources(settings, topic, state, intake, rejected.excluded, redis)
    finally:
        await redis.aclose()
        catalogue.close()
        rejected.close()
