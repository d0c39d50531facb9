"""How fast a worker works off a backlog, against plain Faust on the same backlog."""

from __future__ import annotations

import time

import psutil

from bench.backlog import fill
from bench.plain_faust import NAMESPACE as PLAIN
from bench.process import rss_mib, running
from schemas.settings import Settings
from streams.store.connect import connect
from streams.store.keys import checkpoint_key, default_namespace

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
