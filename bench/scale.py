"""`python -m botify.bench scale`: what calibrates the cost model of `sizing`, what it is compared with, and its inputs.

1, 2 and 4 workers fold backlogs of 1, 2 and 4 partitions; a listen and a request at a fixed rate, as in a service, give
CPU time and bytes to Kafka and Redis; and a user and a track give bytes in Redis, and of a track in each process.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from typing import Any, NamedTuple

import psutil
from confluent_kafka import ConsumerGroupState, KafkaException
from confluent_kafka.admin import AdminClient

from botify.bench.cpu import ALL, CPU_US, Meter
from botify.bench.gateway import LISTENERS_ONLY, run_listeners
from botify.bench.loop import LISTENERS, running, start, wait_until
from botify.bench.sizing import Folding, predict
from botify.bench.worker import DEADLINE_S, USERS, WARM, Drained, drain, fill, folded, listens
from botify.core.kafka.config import common_config, key_of
from botify.core.kafka.publisher import RecordPublisher
from botify.core.settings import Settings
from botify.schemas.catalogue import send_missing_tracks
from botify.schemas.events import Track
from botify.schemas.registry import codec_of
from botify.schemas.topics import Topics, create_topics, worker_group_of
from botify.sim.loop import run_loop
from botify.sim.loop.kafka import publish_catalogue
from botify.sim.options import RunOptions
from botify.sim.play import Progress
from botify.sim.world.model import World
from botify.streams.folds.likes import LIKES_OF_USERS
from botify.streams.folds.popularity import POPULARITY
from botify.streams.folds.sessions import OPEN_SESSIONS
from botify.streams.folds.users import USERS as USER_STATES
from botify.streams.store.connect import connect
from botify.streams.store.keys import checkpoint_key, default_namespace, partition_key

COUNTS = (1, 2, 4)  # of workers, and of partitions
FULL = (4, 4)  # workers and partitions with which all cores of a small machine are busy
LISTENS = 600_000  # of each backlog
SESSION_S = 30  # session timeout of the workers, who are paused while their backlog is written
JOINED_S, ANSWER_S = 90.0, 10.0

Grid = Mapping[tuple[int, int], Drained]  # (workers, partitions) -> how fast they were


def measure_scale(settings: Settings, world: World) -> dict[str, Mapping[str, Any]]:
    """Return `scale`, the costs that `sizing.costs_of` reads, and `scale_runs`, the table of `rows_of`."""
    grid = measure_grid(settings, world)
    user_bytes, track_bytes_of_state = state_bytes(_of_partitions(settings, COUNTS[0]))
    listen, request, following = measure_live(settings, world)
    rows = rows_of(grid)
    figures: dict[str, Any] = {
        "worst_error_percent": max(abs(row["error_percent"] or 0.0) for row in rows.values()),
        "listens_per_s": PER_S,
        "requests_per_s": PER_S,
        "next_per_s": following["per_s"],
        "partition_per_s": PER_S / PARTITIONS,
        "listen_kafka_bytes": listen.kafka_bytes,
        "request_kafka_bytes": request.kafka_bytes,
        "listen_redis_bytes": listen.redis_bytes,
        "request_redis_bytes": request.redis_bytes,
        "user_bytes": user_bytes,
        "track_bytes": track_bytes_of_state,
        **{f"{role}_track_bytes": size for role, size in track_bytes(settings).items()},
        CPU_US: {"listens_per_s": listen.cpu_us, "requests_per_s": request.cpu_us, "next_per_s": following[CPU_US]},
    }
    return {"scale": figures, "scale_runs": rows}


def measure_grid(settings: Settings, world: World) -> dict[tuple[int, int], Drained]:
    found = {}
    for partitions in COUNTS:
        own = _of_partitions(settings, partitions)
        create_topics(own)
        publish_catalogue(own, world.catalogue)
        with ExitStack() as programs:
            workers: list[psutil.Process] = []
            # the first backlog fills the listeners' histories, so that all states have their final size
            for number, count in enumerate((COUNTS[0], *COUNTS)):
                while len(workers) < count:
                    workers.append(programs.enter_context(running(own, "botify.streams.worker")))
                wait_until(partial(_joined, own, count), JOINED_S, f"{count} workers have not joined")
                found[count, partitions] = _fold_backlog(own, number, len(world.catalogue), workers)
    return found


def _of_partitions(settings: Settings, partitions: int) -> Settings:
    return settings.with_(
        topic_prefix=f"{settings.topic_prefix}-{partitions}", partitions=partitions, session_timeout_s=SESSION_S
    )


def _fold_backlog(settings: Settings, number: int, tracks: int, workers: Sequence[psutil.Process]) -> Drained:
    since = number * LISTENS
    for worker in workers:
        worker.suspend()
    try:
        fill(settings, listens(LISTENS, USERS, tracks, seed=number + 1, since=since))
    finally:
        for worker in workers:
            worker.resume()
    # not to the end, where some partitions have none left
    count = folded(settings)
    drained = drain(count, int(LISTENS * (1 - WARM)), workers, since)
    wait_until(lambda: count() >= since + LISTENS, DEADLINE_S, "not all listens are folded")
    return drained


def _joined(settings: Settings, workers: int) -> bool:
    """Say whether all workers are in the group, and those that have partitions have claimed them."""
    group, admin = worker_group_of(settings), AdminClient(common_config(settings))  # answers die with their client
    try:
        described = admin.describe_consumer_groups([group])[group].result(ANSWER_S)
    except (KafkaException, TimeoutError):
        return False
    if described.state != ConsumerGroupState.STABLE or len(described.members) != workers:
        return False
    namespace = default_namespace(settings.topic_prefix)
    with closing(connect(settings)) as redis:
        owners = {redis.hget(checkpoint_key(namespace, partition), "owner") for partition in range(settings.partitions)}
    return None not in owners and len(owners) == min(workers, settings.partitions)


def rows_of(grid: Grid) -> dict[str, dict[str, Any]]:
    """Return what was measured, and the prediction for rows that the model was not calibrated with."""
    folding = {of: Folding(drained.per_s, drained.cpu_us["valkey"]) for of, drained in grid.items()}
    alone = {partitions: found for (workers, partitions), found in folding.items() if workers == 1}
    rows = {}
    for (workers, partitions), drained in sorted(grid.items()):
        row: dict[str, Any] = {
            "listens_per_s": drained.per_s,
            "cores": drained.per_s * drained.cpu_us["all"] / 1e6,
            "worker_us": drained.cpu_us["worker"],
            "kafka_us": drained.cpu_us["kafka"],
            "redis_us": drained.cpu_us["valkey"],
            "predicted": None,
            "error_percent": None,
            "bound": "calibration",
        }
        if workers > 1 and (workers, partitions) != FULL:
            predicted = predict(alone, folding[FULL], workers, partitions)
            error = predicted.listens_per_s / drained.per_s - 1
            row |= {"predicted": predicted.listens_per_s, "error_percent": 100 * error, "bound": predicted.bound}
        rows[f"{workers} × {partitions}"] = row
    return rows


PARTITIONS, PER_S = 4, 4_000.0  # a thousand listens a second for each partition, which leaves half of two cores idle
COMPILE_S, WARM_UP_S, SECONDS, NEXT_S = 10.0, 3.0, 12.0, 8.0  # until `COMPILE_S`, programs read compiled loops
TICK_S = 0.004


class Used(NamedTuple):
    """What an event took: CPU time by role, and bytes of records in Kafka and to and from Redis."""

    cpu_us: dict[str, float]
    kafka_bytes: float
    redis_bytes: float

    def without(self, other: "Used") -> "Used":
        roles = {role: us - other.cpu_us.get(role, 0.0) for role, us in self.cpu_us.items() if role != ALL}
        kafka_bytes, redis_bytes = self.kafka_bytes - other.kafka_bytes, self.redis_bytes - other.redis_bytes
        return Used({**roles, ALL: sum(roles.values())}, kafka_bytes, redis_bytes)


class UsageMeter:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._kafka_bytes, self._redis_bytes = self._bytes()
        self._cpu = Meter()

    def per(self, count: float) -> Used:
        cpu_us = self._cpu.us_per(count)
        kafka_bytes, redis_bytes = self._bytes()
        return Used(cpu_us, (kafka_bytes - self._kafka_bytes) / count, (redis_bytes - self._redis_bytes) / count)

    def _bytes(self) -> tuple[int, int]:
        """Return the bytes of Kafka's logs, and those that Redis has received and sent."""
        logs = (self._settings.home / "kafka").glob(f"{self._settings.topic_prefix}.*/*.log")
        with closing(connect(self._settings)) as redis:
            stats = redis.info("stats")
        redis_bytes = int(stats["total_net_input_bytes"]) + int(stats["total_net_output_bytes"])
        return sum(log.stat().st_size for log in logs), redis_bytes


def measure_live(settings: Settings, world: World) -> tuple[Used, Used, dict[str, Any]]:
    """Return what a listen and a request of the closed loop take, and the gateway's figures of `/next`."""
    own = settings.with_(topic_prefix=f"{settings.topic_prefix}-live", partitions=PARTITIONS)
    create_topics(own)
    publish_catalogue(own, world.catalogue)
    with ExitStack() as programs:
        for module in ("botify.streams.worker", "botify.services.recommender"):
            start(programs, own, module)
        # before the loop, whose event time is later
        listen = _of_listens(own, len(world.catalogue))
        run_loop(own, world, RunOptions(seconds=COMPILE_S, in_flight=LISTENERS))
        answer = _of_loop(own, world)
        _, port = start(programs, own, "botify.services.gateway", LISTENERS_ONLY)
        following = run_listeners(port, len(world.catalogue), warm_up_s=WARM_UP_S, seconds=NEXT_S)
    return listen, answer.without(listen), following


def _of_loop(settings: Settings, world: World) -> Used:
    began: list[tuple[UsageMeter, int]] = []

    def start_when_warm(progress: Progress) -> None:
        if not began and progress.wall_s >= WARM_UP_S:
            began.append((UsageMeter(settings), progress.recommendations))

    options = RunOptions(rate=PER_S, seconds=WARM_UP_S + SECONDS, in_flight=LISTENERS)
    done = run_loop(settings, world, options, start_when_warm)
    ((meter, before),) = began
    return meter.per(done.recommendations - before)


def _of_listens(settings: Settings, tracks: int) -> Used:
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


CATALOGUES = (50_000, 250_000)
ARTIST_TRACKS = 12
ROLES = (
    ("worker", "botify.streams.worker", None),
    ("recommender", "botify.services.recommender", None),
    ("gateway", "botify.services.gateway", LISTENERS_ONLY),
)


def state_bytes(settings: Settings) -> tuple[float, float]:
    """Return the bytes in Redis of a listener whose history is full, and of a track in a partition."""
    namespace = default_namespace(settings.topic_prefix)
    collections = USER_STATES, LIKES_OF_USERS, OPEN_SESSIONS, POPULARITY
    keys = {collection: partition_key(namespace, 0, collection) for collection in collections}
    with closing(connect(settings)) as redis:
        *of_users, of_tracks = (float(redis.memory_usage(key, samples=0) or 0) for key in keys.values())
        users, tracks = (int(redis.hlen(keys[collection])) for collection in (USER_STATES, POPULARITY))
    return sum(of_users) / users, of_tracks / tracks


def track_bytes(settings: Settings) -> dict[str, float]:
    """Return the bytes of a track in each process, and in the file that those of a machine share, by two catalogues."""
    small, large = (_bytes_with(settings, tracks) for tracks in CATALOGUES)
    tracks = CATALOGUES[1] - CATALOGUES[0]
    return {role: max(0.0, large[role] - small[role]) / tracks for role in small}


def _bytes_with(settings: Settings, tracks: int) -> dict[str, float]:
    own = settings.with_(topic_prefix=f"{settings.topic_prefix}-{tracks}", partitions=1)
    create_topics(own)
    publisher = RecordPublisher(own, linger_ms=20)
    send_missing_tracks(publisher, Topics.of(own).catalogue.name, codec_of(own), _tracks(tracks), {})
    publisher.flush()
    found: dict[str, float] = {}
    with ExitStack() as programs:
        for role, module, environ in ROLES:
            process, _ = start(programs, own, module, environ)
            found[role] = float(process.memory_full_info().uss)
    files = (own.home / "cache").glob(f"{Topics.of(own).catalogue.name}.*")
    found["shared"] = float(sum(path.stat().st_size for path in files))
    return found


def _tracks(count: int) -> Iterator[Track]:
    for track in range(count):
        number = track // ARTIST_TRACKS
        yield Track(track, f"artist {number}", f"album {number}", "rock", f"track {track}")
