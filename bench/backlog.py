"""A backlog of listens, and how fast workers fold it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import psutil

from botify.bench.cpu import Meter
from botify.bench.loop import rss_mib
from botify.core.kafka.config import key_of
from botify.core.kafka.publisher import RecordPublisher
from botify.core.settings import Settings
from botify.schemas.events import Listen
from botify.schemas.registry import codec_of
from botify.schemas.topics import Topics
from botify.streams.store.connect import connect
from botify.streams.store.keys import checkpoint_key

SESSION_LISTENS = 10
START_MS = 1_700_000_000_000
STEP_MS = 20
"""Event time between two listens of the whole service."""

BACKLOG = 1_000_000
USERS = 10_000

WARM = 0.1
"""Share of the work that is done before the clock starts: imports, claims and cold caches are not measured."""
LOOK_S = 0.02
DEADLINE_S = 300.0


def listens(count: int, users: int, tracks: int, seed: int = 1, since: int = 0) -> Iterator[Listen]:
    """Yield listens of many listeners in random order: any track, any fraction, ten listens a session.

    Parameters
    ----------
    since : int
        Listens that were sent before: these are later, and in other sessions.
    """
    rng = np.random.default_rng(seed)
    who = rng.integers(users, size=count).tolist()
    what = rng.integers(tracks, size=count).tolist()
    share = rng.integers(101, size=count).tolist()
    heard = [0] * users
    for i, (user, track, percent) in enumerate(zip(who, what, share, strict=True)):
        session, position = divmod(heard[user], SESSION_LISTENS)
        heard[user] += 1
        session_id = f"backlog-{user}-{since + session}"
        yield Listen(
            event_id=f"{session_id}:{position}",
            user=user,
            track=track,
            fraction=percent / 100,
            timestamp_ms=START_MS + (since + i) * STEP_MS,
            session_id=session_id,
            position=position,
            ended_session=position == SESSION_LISTENS - 1,
            recommender="sticky_artist",
            treatments={"STICKY_ARTIST": "T1"},
            propensity=0.05,
            latency_ms=4.2,
        )


def fill(settings: Settings, backlog: Iterable[Listen]) -> None:
    """Write the listens, and wait until they are acknowledged."""
    topic, codec = Topics.of(settings).listens.name, codec_of(settings)
    publisher = RecordPublisher(settings, linger_ms=20)
    for listen in backlog:
        publisher.send(topic, codec.encode(listen), key_of(listen.user))
    publisher.flush()


class Drained(NamedTuple):
    """What was seen of workers that fold a backlog.

    Attributes
    ----------
    per_s : float
        Listens a second.
    cpu_us : dict
        CPU time a listen of each role.
    memory : list of (int, float)
        Listens done, and MiB of all workers, over time.
    """

    per_s: float
    cpu_us: dict[str, float]
    memory: list[tuple[int, float]]


def drain(settings: Settings, namespace: str, until: int, workers: Sequence[psutil.Process], since: int = 0) -> Drained:
    """Watch the checkpoints until so many listens are done, from `WARM` of them on.

    Parameters
    ----------
    since : int
        Listens that were done before the backlog; `until` does not count them.

    Raises
    ------
    TimeoutError
        They are not done after `DEADLINE_S`, or a worker died.
    """
    redis = connect(settings)
    memory: list[tuple[int, float]] = []
    started: tuple[float, int, Meter] | None = None
    give_up = time.monotonic() + DEADLINE_S
    while time.monotonic() < give_up and all(map(_alive, workers)):
        pipeline = redis.pipeline(transaction=False)
        for partition in range(settings.partitions):
            pipeline.hget(checkpoint_key(namespace, partition), "next_offset")
        done = sum(int(offset or 0) for offset in pipeline.execute()) - since
        now = time.perf_counter()
        memory.append((done, sum(map(rss_mib, workers))))
        if started is None and done >= WARM * until:
            started = (now, done, Meter())
        if done >= until and started is not None:
            began_s, before, meter = started
            return Drained((done - before) / (now - began_s), meter.us_per(done - before), memory)
        time.sleep(LOOK_S)
    raise TimeoutError(f"{memory[-1][0]:,} of {until:,} listens were done after {DEADLINE_S:.0f} s, or a process died")


def _alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
