"""The baseline: a Faust worker as in Faust's documentation, with the same folds, one event at a time.

It has every advantage: no duplicate window is persisted with a checkpoint, nothing is fenced, and the writes of 1,000
events go to Redis together. The rest is Faust's own cost for an event.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import faust
import uvloop

from botify.core.settings import Settings
from botify.schemas.events import Listen
from botify.schemas.registry import codec_of
from botify.schemas.topics import Topics
from botify.streams.folds.reference import ReferenceFold
from botify.streams.store.connect import connect_async
from botify.streams.store.redis_store import RedisStore

NAMESPACE = "bench.plain"
WRITE_EVERY = 1_000


def build_app(settings: Settings) -> faust.App:
    broker = [f"kafka://{server}" for server in settings.kafka_bootstrap_servers.split(",")]
    plain: dict[str, Any] = {"topic_disable_leader": True, "web_enabled": False}
    plain |= {"consumer_auto_offset_reset": "earliest", "datadir": settings.home / "faust-plain"}
    app = faust.App(f"{settings.topic_prefix}-plain", broker=broker, value_serializer="raw", **plain)
    topic = app.topic(Topics.of(settings).listens.name, value_type=bytes, value_serializer="raw", key_serializer="raw")
    codec, folds = codec_of(settings), {p: ReferenceFold(p) for p in range(settings.partitions)}
    counts = dict.fromkeys(folds, 0)

    @app.agent(topic)
    async def fold(stream: Any) -> AsyncIterator[None]:
        redis = connect_async(settings)
        store = RedisStore(redis, NAMESPACE)
        claims = {p: await store.claim(p, "plain", "plain") for p in folds}
        async for event in stream.events():
            message = event.message
            partition = message.partition
            state = folds[partition]
            batch = [(message.offset, codec.decode(event.value, Listen))]
            for name, fields in state.missing(batch).items():
                state.load_fields(name, dict.fromkeys(fields))  # the namespace is empty: nothing to read
            state.fold(batch)
            counts[partition] += 1
            if counts[partition] % WRITE_EVERY == 0:
                state.take_closed_sessions()
                done, claim = counts[partition], claims[partition]
                await store.apply(partition, claim, done - WRITE_EVERY or None, done, state.take_changes())
            yield

    return app


def main() -> None:
    logging.disable(logging.WARNING)
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    app = build_app(Settings.from_env())
    faust.Worker(app, loop=loop, loglevel=None, override_logging=False, quiet=True).execute_from_commandline()


if __name__ == "__main__":
    main()
