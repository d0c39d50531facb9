"""What a listen and a request cost at a fixed rate, as in a service: CPU time, and bytes to Kafka and Redis."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from typing import Any, NamedTuple

from botify.bench.backlog import USERS, listens
from botify.bench.cpu import ALL, Meter
from botify.bench.gateway import WITHOUT_DASHBOARD, port_of, run_listeners
from botify.bench.loop import running
from botify.core.kafka.config import key_of
from botify.core.kafka.publisher import RecordPublisher
from botify.core.settings import Settings
from botify.schemas.registry import codec_of
from botify.schemas.topics import Topics, create_topics
from botify.sim.loop import publish_catalogue, run_loop
from botify.sim.options import RunOptions
from botify.sim.play import Progress
from botify.sim.world.model import World
from botify.streams.store.connect import connect

PARTITIONS, PER_S = 4, 4_000.0
"""A thousand listens a second for each partition, which leaves half of two cores idle."""
LISTENERS = 2_000
COMPILE_S, WARM_UP_S, SECONDS, NEXT_S = 10.0, 3.0, 12.0, 8.0
"""Within `COMPILE_S` worker and recommender have read their compiled loops, whose CPU time is not that of events."""
TICK_S = 0.004


class Used(NamedTuple):
    """What an event took: CPU time by role, and bytes of records in Kafka and to and from Redis."""

    cpu_us: dict[str, float]
    kafka_bytes: float
    redis_bytes: float

    def without(self, other: Used) -> Used:
        """Return what it took beside another event."""
        roles = {role: us - other.cpu_us.get(role, 0.0) for role, us in self.cpu_us.items() if role != ALL}
        return Used(
            {**roles, ALL: sum(roles.values())},
            self.kafka_bytes - other.kafka_bytes,
            self.redis_bytes - other.redis_bytes,
        )


class UsageMeter:
    """Measures what events take, from its start on."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._bytes = _kafka_bytes(settings), _redis_bytes(settings)
        self._cpu = Meter()

    def per(self, count: float) -> Used:
        """Return what one of so many events has taken."""
        cpu_us = self._cpu.us_per(count)
        now = _kafka_bytes(self._settings), _redis_bytes(self._settings)
        return Used(cpu_us, *((after - before) / count for before, after in zip(self._bytes, now, strict=True)))


def _kafka_bytes(settings: Settings) -> int:
    """Return the bytes of all records of our topics, as the embedded broker has them on its disk."""
    return sum(log.stat().st_size for log in (settings.home / "kafka").glob(f"{settings.topic_prefix}.*/*.log"))


def _redis_bytes(settings: Settings) -> int:
    redis = connect(settings)
    try:
        told = redis.info("stats")
    finally:
        redis.close()
    return int(told["total_net_input_bytes"]) + int(told["total_net_output_bytes"])


def measure_live(settings: Settings, world: World) -> tuple[Used, Used, dict[str, Any]]:
    """Return what a listen and a request of the closed loop take, and the gateway's figures of `/next`.

    A request is what the closed loop takes beside its listens. The recommender takes part in both, so what it takes
    while it has no requests is in the listen.
    """
    own = settings.with_(topic_prefix=f"{settings.topic_prefix}-live", partitions=PARTITIONS)
    create_topics(own)
    publish_catalogue(own, world.catalogue)
    with ExitStack() as programs:
        for module in ("botify.streams.worker", "botify.services.recommender"):
            programs.enter_context(running(own, module))
        # before the loop, whose event time is later
        listen = _of_listens(own, len(world.catalogue))
        run_loop(own, world, RunOptions(seconds=COMPILE_S, in_flight=LISTENERS))
        answer = _of_loop(own, world)
        programs.enter_context(running(own, "botify.services.gateway", environ=WITHOUT_DASHBOARD))
        load = [sys.executable, "-m", "botify.bench.gateway", port_of(own), str(len(world.catalogue))]
        following = run_listeners([*load, "--warm-up", str(WARM_UP_S), "--seconds", str(NEXT_S)], NEXT_S)
    return listen, answer.without(listen), following


def _of_loop(settings: Settings, world: World) -> Used:
    """Return what an answer of the closed loop takes, its listen included."""
    began: list[tuple[UsageMeter, int]] = []

    def start_when_warm(progress: Progress) -> None:
        if not began and progress.wall_s >= WARM_UP_S:
            began.append((UsageMeter(settings), progress.recommendations))

    options = RunOptions(rate=PER_S, seconds=WARM_UP_S + SECONDS, in_flight=LISTENERS)
    done = run_loop(settings, world, options, start_when_warm)
    ((meter, before),) = began
    return meter.per(done.recommendations - before)


def _of_listens(settings: Settings, tracks: int) -> Used:
    """Send listens in steps as the simulator does, and return what one takes."""
    topic, codec = Topics.of(settings).listens.name, codec_of(settings)
    publisher, meter = RecordPublisher(settings, linger_ms=0), UsageMeter(settings)
    began_s, warm, count = time.perf_counter(), int(PER_S * COMPILE_S), int(PER_S * (COMPILE_S + SECONDS))
    for number, listen in enumerate(listens(count, USERS, tracks)):
        if number == warm:
            meter = UsageMeter(settings)
        if number / PER_S > time.perf_counter() - began_s:
            publisher.poll()
            time.sleep(TICK_S)
        publisher.send(topic, codec.encode(listen), key_of(listen.user))
    publisher.flush()
    return meter.per(count - warm)
