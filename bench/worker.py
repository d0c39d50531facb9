"""A backlog: listens in the topic before anybody reads them."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import psutil

from bench.loop import rss_mib, running
from bench.plain_faust import NAMESPACE as PLAIN
from core.kafka.config import key_of
from core.kafka.publisher import RecordPublisher
from core.settings import Settings
from schemas.events import Listen
from schemas.registry import codec_of
from schemas.topics import Topics
from streams.store.connect import connect
from streams.store.keys import checkpoint_key, default_namespace

SESSION_LISTENS = 10
START_MS = 1_700_000_000_000
STEP_MS = 20
"""Event time between two listens of the whole service."""


def listens(count: int, users: int, tracks: int, seed: int = 1) -> Iterator[Listen]:
    """Yield listens of many listeners, all mixed up: any track, any share, ten listens a session."""
    rng = np.random.default_rng(seed)
    who = rng.integers(users, size=count).tolist()
    what = rng.integers(tracks, size=count).tolist()
    share = rng.integers(101, size=count).tolist()
    heard = [0] * users
    for i, (user, track, percent) in enumerate(zip(who, what, share, strict=True)):
        session, position = divmod(heard[user], SESSION_LISTENS)
        heard[user] += 1
        session_id = f"backlog-{user}-{session}"
        yield Listen(
            event_id=f"{session_id}:{position}",
            user=user,
            track=track,
            fraction=percent / 100,
            timestamp_ms=START_MS + i * STEP_MS,
            session_id=session_id,
            position=position,
            ended_session=position == SESSION_LISTENS - 1,
            recommender="sticky_artist",
            treatments={"STICKY_ARTIST": "T1"},
            propensity=0.05,
            latency_ms=4.2,
        )


def fill(settings: Settings, count: int, users: int, tracks: int) -> None:
    """Write the backlog, and wait until it is acknowledged."""
    topic, codec = Topics.of(settings).listens.name, codec_of(settings)
    publisher = RecordPublisher(settings, linger_ms=20)
    for listen in listens(count, users, tracks):
        publisher.send(topic, codec.encode(listen), key_of(listen.user))
    publisher.flush()


BACKLOG = 1_000_000
USERS = 10_000
PLAIN_SHARE = 60_000
"""Listens after which the yardstick is stopped; it does a few thousand a second."""

WARM = 0.1
"""Share of the work that is done before the clock starts: imports, claims and cold caches are not the drain."""

DEADLINE_S = 300.0


def measure_worker(settings: Settings, tracks: int) -> dict[str, float]:
    """Fill a topic, drain it twice, and return listens per second and memory.

    Returns
    -------
    dict
        `listens_per_s`, `plain_faust_listens_per_s`, `ratio`, `rss_mib_at_200k`, `rss_mib_at_end`, `rss_ratio`.
    """
    fill(settings, BACKLOG, USERS, tracks)
    with running(settings, "streams.worker") as worker:
        ours, memory = _drain(settings, default_namespace(settings.topic_prefix), BACKLOG, worker)
    with running(settings, "bench.plain_faust") as plain:
        theirs, _ = _drain(settings, PLAIN, PLAIN_SHARE, plain)
    early = next(rss for done, rss in memory if done >= BACKLOG // 5)
    return {
        "listens_per_s": ours,
        "plain_faust_listens_per_s": theirs,
        "ratio": ours / theirs,
        "rss_mib_at_200k": early,
        "rss_mib_at_end": memory[-1][1],
        "rss_ratio": memory[-1][1] / early,
    }


def _drain(
    settings: Settings, namespace: str, until: int, process: psutil.Process
) -> tuple[float, list[tuple[int, float]]]:
    """Watch the checkpoints, and return listens per second and (listens done, MiB) over time."""
    redis = connect(settings)
    memory: list[tuple[int, float]] = []
    started: tuple[float, int] | None = None
    give_up = time.monotonic() + DEADLINE_S
    while time.monotonic() < give_up and process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        pipeline = redis.pipeline(transaction=False)
        for partition in range(settings.partitions):
            pipeline.hget(checkpoint_key(namespace, partition), "next_offset")
        done = sum(int(offset or 0) for offset in pipeline.execute())
        now = time.perf_counter()
        memory.append((done, rss_mib(process)))
        if started is None and done >= WARM * until:
            started = (now, done)
        if done >= until and started is not None:
            return (done - started[1]) / (now - started[0]), memory
        time.sleep(0.02)
    raise TimeoutError(
        f"{memory[-1][0]:,} of {until:,} listens were done after {DEADLINE_S:.0f} s, or the process died"
    )
