"""Peers of the worker: the same backlog through Kafka Streams, Quix Streams and plain Faust, each in its own process.

    pip install --no-deps quixstreams==3.28.1
    pip install 'confluent-kafka[avro,json,protobuf,schemaregistry]' rocksdict pydantic-settings jsonpath-ng jsonlines
    python -m botify.bench peers

Kafka Streams is run from source (`KafkaStreamsPeer.java`), so it needs a JDK. Each peer does less than the worker
(docs/performance.md).
"""

import asyncio
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from statistics import median
from typing import Any

import faust
import uvloop

from botify.bench.loop import running
from botify.bench.worker import BACKLOG, USERS, Drained, drain, fill, folded, listens
from botify.core.kafka.admin import committed_offsets, retry_brokers
from botify.core.process import find_java
from botify.core.settings import Settings
from botify.schemas.events import Listen
from botify.schemas.registry import codec_of
from botify.schemas.topics import Topics, create_topics
from botify.services.stack.kafka import KAFKA_VERSION
from botify.sim.loop.kafka import publish_catalogue
from botify.sim.world.model import World
from botify.streams.folds.reference import ReferenceFold
from botify.streams.store.connect import connect_async
from botify.streams.store.redis_store import RedisStore

NAMESPACE = "bench.plain"
WRITE_EVERY = 1_000
HISTORY = 50
ROUNDS = 3
PEER = "BOTIFY_BENCH_PEER"  # names the peer to its process
# listens, for slower ones fewer
SHARES = {"kafka_streams": BACKLOG, "quix": BACKLOG // 5, "plain_faust": BACKLOG // 16}


def measure_peers(settings: Settings, world: World) -> dict[str, Any]:
    """Let the worker and each peer fold one backlog, in `ROUNDS` rounds; return the medians by name."""
    rounds: dict[str, list[Drained]] = {}
    for at in range(ROUNDS):
        own = settings.with_(topic_prefix=f"{settings.topic_prefix}-{at}")
        create_topics(own)
        publish_catalogue(own, world.catalogue)
        fill(own, listens(BACKLOG, USERS, len(world.catalogue)))
        with running(own, "botify.streams.worker") as worker:
            rounds.setdefault("botify", []).append(drain(folded(own), BACKLOG, [worker]))
        for name, share in SHARES.items():
            with running(own, "botify.bench.peers", {PEER: name}) as peer:
                rounds.setdefault(name, []).append(drain(committed(own, group_of(own, name)), share, [peer]))
    best = median(one.per_s for one in rounds["botify"])
    return {
        name: {
            "listens_per_s": median(one.per_s for one in of_peer),
            "slowest": min(one.per_s for one in of_peer),
            "fastest": max(one.per_s for one in of_peer),
            "ratio": best / median(one.per_s for one in of_peer),
            **{f"{role}_us": median(one.cpu_us.get(role, 0.0) for one in of_peer) for role in ("kafka", "valkey")},
            "own_us": median(one.cpu_us.get("worker", one.cpu_us.get("peer", 0.0)) for one in of_peer),
        }
        for name, of_peer in rounds.items()
    }


def group_of(settings: Settings, name: str) -> str:
    return f"{Topics.of(settings).listens.name}-{name}"


def committed(settings: Settings, group: str) -> Callable[[], int]:
    """Return what says how many listens a consumer group has committed; it asks ten times a second at most."""
    partitions = [(Topics.of(settings).listens.name, partition) for partition in range(settings.partitions)]

    def count() -> int:
        time.sleep(0.1)
        return sum(retry_brokers(lambda: committed_offsets(settings, group, partitions, 10.0)).values())

    return count


def plain_faust(settings: Settings) -> None:
    """Run a Faust worker as in Faust's documentation, with the same folds, one event at a time.

    It has every advantage: nothing is fenced, and the writes of 1,000 events go to Redis together. The rest is Faust's
    own cost for an event.
    """
    logging.disable(logging.WARNING)
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    broker = [f"kafka://{server}" for server in settings.kafka_bootstrap_servers.split(",")]
    plain: dict[str, Any] = {"topic_disable_leader": True, "web_enabled": False, "broker_commit_interval": 1.0}
    plain |= {"consumer_auto_offset_reset": "earliest", "datadir": settings.home / "faust-plain"}
    app = faust.App(group_of(settings, "plain_faust"), broker=broker, value_serializer="raw", **plain)
    topic = app.topic(Topics.of(settings).listens.name, value_type=bytes, value_serializer="raw", key_serializer="raw")
    codec, folds = codec_of(settings), {p: ReferenceFold(p) for p in range(settings.partitions)}
    counts = dict.fromkeys(folds, 0)

    @app.agent(topic)
    async def fold(stream: Any) -> AsyncIterator[None]:
        redis = connect_async(settings)
        store = RedisStore(redis, f"{settings.topic_prefix}.{NAMESPACE}")
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

    faust.Worker(app, loop=loop, loglevel=None, override_logging=False, quiet=True).execute_from_commandline()


def quix(settings: Settings) -> None:
    """Run Quix Streams, exactly once: counts and the last listens of each listener in RocksDB with a changelog."""
    from quixstreams import Application

    codec = codec_of(settings)
    app = Application(
        broker_address=settings.kafka_bootstrap_servers,
        consumer_group=group_of(settings, "quix"),
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        commit_interval=1.0,
        state_dir=settings.home / "quix",
        loglevel="WARNING",
    )
    topic = app.topic(Topics.of(settings).listens.name, key_deserializer="bytes", value_deserializer="bytes")

    def fold(value: bytes, state: Any) -> None:
        listen = codec.decode(value, Listen)
        user = state.get("user") or {"listens": 0, "sessions": 0, "history": []}
        heard = [*user["history"][1 - HISTORY :], [listen.timestamp_ms, listen.fraction, listen.track]]
        sessions = user["sessions"] + listen.ended_session
        state.set("user", {"listens": user["listens"] + 1, "sessions": sessions, "history": heard})

    app.dataframe(topic).update(fold, stateful=True)
    app.run()


def kafka_streams(settings: Settings) -> None:
    """Become `KafkaStreamsPeer.java`."""
    import jgo
    from jgo.maven import PythonResolver

    endpoint = f"org.apache.kafka:kafka-streams:{KAFKA_VERSION}+org.slf4j:slf4j-simple:1.7.36"
    jars = ":".join(str(jar) for jar in jgo.build(endpoint, resolver=PythonResolver()).all_jars)
    java = find_java("Kafka Streams", "Install a JDK.", module="jdk.compiler")
    source = Path(__file__).with_name("KafkaStreamsPeer.java")
    topics, folder = Topics.of(settings), str(settings.home / "kafka-streams")
    arguments = [settings.kafka_bootstrap_servers, topics.listens.name, topics.sessions.name, folder]
    log = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
    os.execv(java, [str(java), "-Xmx1g", log, "-cp", jars, str(source), *arguments])  # noqa: S606


if __name__ == "__main__":
    programs = {"plain_faust": plain_faust, "quix": quix, "kafka_streams": kafka_streams}
    sys.exit(programs[os.environ[PEER]](Settings.from_env()))
