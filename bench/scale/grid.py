"""1, 2 and 4 workers on backlogs of 1, 2 and 4 partitions, and what the model predicts of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import psutil
from confluent_kafka import ConsumerGroupState, KafkaException
from confluent_kafka.admin import AdminClient

from botify.bench.backlog import DEADLINE_S, USERS, WARM, Drained, drain, fill, listens
from botify.bench.loop import running, wait_until
from botify.bench.scale.model import Folding, predict
from botify.core.kafka.config import common_config
from botify.core.settings import Settings
from botify.schemas.topics import create_topics, worker_group_of
from botify.sim.loop import publish_catalogue
from botify.sim.world.model import World
from botify.streams.read import StateReader
from botify.streams.store.connect import connect
from botify.streams.store.keys import checkpoint_key, default_namespace

COUNTS = (1, 2, 4)
"""Of workers, and of partitions."""
FULL = (4, 4)
"""Workers and partitions with which all cores of a small machine are busy."""
LISTENS = 600_000
"""Of each backlog."""
SESSION_S = 30
"""Session timeout of the workers, who are paused while their backlog is written."""
JOINED_S, ANSWER_S = 90.0, 10.0

Grid = Mapping[tuple[int, int], Drained]
"""(workers, partitions) -> how fast they were."""


def of_partitions(settings: Settings, partitions: int) -> Settings:
    """Return the settings of the backlogs with so many partitions."""
    return settings.with_(
        topic_prefix=f"{settings.topic_prefix}-{partitions}", partitions=partitions, session_timeout_s=SESSION_S
    )


def measure_grid(settings: Settings, world: World) -> dict[tuple[int, int], Drained]:
    """Let all combinations of workers and partitions fold a backlog each."""
    found = {}
    for partitions in COUNTS:
        own = of_partitions(settings, partitions)
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


def _fold_backlog(settings: Settings, number: int, tracks: int, workers: Sequence[psutil.Process]) -> Drained:
    since = number * LISTENS
    with _paused(workers):
        fill(settings, listens(LISTENS, USERS, tracks, seed=number + 1, since=since))
    namespace, redis = default_namespace(settings.topic_prefix), connect(settings)
    # not to the end, where some partitions have none left
    drained = drain(settings, namespace, int(LISTENS * (1 - WARM)), workers, since)
    checkpoints = StateReader(redis, settings).checkpoints
    wait_until(lambda: sum(checkpoints().values()) >= since + LISTENS, DEADLINE_S, "not all listens are folded")
    redis.close()
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
    redis, namespace = connect(settings), default_namespace(settings.topic_prefix)
    owners = {redis.hget(checkpoint_key(namespace, partition), "owner") for partition in range(settings.partitions)}
    redis.close()
    return None not in owners and len(owners) == min(workers, settings.partitions)


@contextmanager
def _paused(processes: Sequence[psutil.Process]) -> Iterator[None]:
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


def rows_of(grid: Grid) -> dict[str, dict[str, Any]]:
    """Return the rows of the table: what was measured, and what the model says of those it was not calibrated with.

    The model knows one worker on each number of partitions, and `FULL`.
    """
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
