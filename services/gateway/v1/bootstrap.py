"""`/v1` wired to Kafka and Redis."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import numpy as np

from core.kafka.config import partition_of
from core.settings import Settings
from schemas.codec import Codec
from schemas.external_ids import UserIds
from schemas.models import ModelHandle, ModelReader
from schemas.topics import Topics
from services.gateway.service import GatewayService
from services.gateway.sessions import ScriptBatcher
from services.gateway.v1.api import V1
from services.gateway.v1.events import EventIntake
from services.gateway.v1.items import Charts, Items, Scores
from services.gateway.v1.listeners import RedisListenerStore
from services.gateway.v1.recommending import Recommending
from services.gateway.v1.users import Users
from streams.dlq.exclude import Selection, exclude
from streams.folds.likes import LIKES_OF_USERS
from streams.folds.users import USERS
from streams.learner.models.item_graph import ItemGraph, neighbours_of
from streams.read import StateReader
from streams.store.keys import partition_key


async def connect_v1(
    settings: Settings,
    codec: Codec,
    service: GatewayService,
    batcher: ScriptBatcher,
    redis: Any,
    users: UserIds,
    stack: AsyncExitStack,
) -> V1:
    """Follow the graph of items liked together, and return what serves `/v1`; raises `BotifyError`."""
    reader = StateReader(redis, settings)
    topics, listeners = Topics.of(settings), RedisListenerStore(batcher, settings.topic_prefix)
    models = await asyncio.to_thread(ModelReader, settings, codec)
    graph = models.follow(ItemGraph.name, lambda model: neighbours_of(model.body))
    await asyncio.to_thread(models.start)
    stack.push_async_callback(asyncio.to_thread, models.close)
    return V1(
        Recommending(service, listeners),
        EventIntake(service, listeners, users, topics.feedback.name),
        Items(service, listeners, Charts(reader), partial(neighbours_in, graph), topics.catalogue.name),
        Users(service, listeners, reader, partial(erase, settings, redis, reader)),
    )


def neighbours_in(graph: ModelHandle[Any], track: int) -> Scores:
    """Return the neighbours of an item with their weights, the nearest first."""
    if graph.current is None:
        return []
    ids, neighbours, weights = graph.current
    found = np.flatnonzero(ids == track)[:1]
    pairs = zip(neighbours[found].ravel().tolist(), weights[found].ravel().tolist(), strict=True)
    return [(near, weight) for near, weight in pairs if near >= 0]


def erase(settings: Settings, redis: Any, reader: StateReader, user: int) -> int:
    """Make dead letters of a listener's listens, erase the state, and return their number.

    The listens stay on their topic, because offsets are never changed, but every later fold leaves them out. Popularity
    and models have them until the next replay. A worker that has the state in memory writes it again with the next
    listen, until it claims the partition again.
    """
    done = exclude(settings, Selection(user=user), "the listener was erased")
    partition = partition_of(user, settings.partitions)
    for collection in (USERS, LIKES_OF_USERS):
        redis.hdel(partition_key(reader.namespace, partition, collection), b"%d" % user)
    return done.count + done.already
