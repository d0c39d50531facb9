"""`/v1` wired to Kafka and Redis."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import numpy as np
from confluent_kafka.admin import AdminClient

from botify.core.kafka.admin import partition_counts
from botify.core.kafka.config import common_config
from botify.core.settings import Settings
from botify.schemas.codec import Codec
from botify.schemas.external_ids import UserIds
from botify.schemas.models import ModelHandle, ModelReader
from botify.schemas.topics import Topics
from botify.services.gateway.service import GatewayService
from botify.services.gateway.sessions import ScriptBatcher
from botify.services.gateway.v1.api import V1
from botify.services.gateway.v1.erasures import Erasures
from botify.services.gateway.v1.events import EventIntake
from botify.services.gateway.v1.items import Charts, Items, Scores
from botify.services.gateway.v1.listeners import RedisListenerStore
from botify.services.gateway.v1.recommending import Recommending
from botify.services.gateway.v1.users import Users
from botify.streams.dlq.erase import erase_listener
from botify.streams.learner.models.item_graph import ItemGraph, neighbours_of
from botify.streams.read import StateReader


async def connect_v1(
    settings: Settings,
    codec: Codec,
    service: GatewayService,
    batcher: ScriptBatcher,
    redis: Any,
    reader: StateReader,
    users: UserIds,
    stack: AsyncExitStack,
) -> V1:
    """Follow the graph of items liked together, and return what serves `/v1`; raises `BotifyError`."""
    topics = Topics.of(settings)
    counts = await asyncio.to_thread(partition_counts, AdminClient(common_config(settings)))
    partitions = counts.get(topics.feedback.name, settings.partitions)  # they do not grow with those of the listens
    listeners = RedisListenerStore(batcher, settings.topic_prefix, lambda: reader.last_namespace, partitions)
    models = await asyncio.to_thread(ModelReader, settings, codec)
    graph = models.follow(ItemGraph.name, lambda model: neighbours_of(model.body), ItemGraph.merged)
    await asyncio.to_thread(models.start)
    stack.push_async_callback(asyncio.to_thread, models.close)
    events = EventIntake(service, listeners, users, topics.feedback.name)
    erasures = Erasures(
        redis,
        settings.topic_prefix,
        lambda user: reader.users([user]) != [None],
        lambda user, known: erase_listener(settings, user, lambda at: reader.checkpoints().get(at), known),
    )
    return V1(
        Recommending(service, listeners),
        events,
        Items(service, listeners, Charts(reader), partial(neighbours_in, graph), topics.catalogue.name),
        Users(
            service,
            listeners,
            reader,
            erasures.erase,
            events,
            erasures.status,
        ),
    )


def neighbours_in(graph: ModelHandle[Any], track: int) -> Scores:
    """Return the neighbours of an item with their weights, the nearest first."""
    if graph.current is None:
        return []
    ids, neighbours, weights = graph.current
    found = np.flatnonzero(ids == track)[:1]
    pairs = zip(neighbours[found].ravel().tolist(), weights[found].ravel().tolist(), strict=True)
    return [(near, weight) for near, weight in pairs if near >= 0]
