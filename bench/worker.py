"""A worker on a backlog, beside a replay of it, and on single listens."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from botify.bench.backlog import BACKLOG, DEADLINE_S, USERS, drain, fill, listens
from botify.bench.cpu import CPU_US, Meter, busy_machine
from botify.bench.loop import running, wait_until
from botify.bench.plain_faust import NAMESPACE as PLAIN
from botify.core.kafka.config import key_of
from botify.core.kafka.publisher import RecordPublisher
from botify.core.settings import Settings
from botify.schemas.registry import codec_of
from botify.schemas.topics import Topics
from botify.streams.read import StateReader
from botify.streams.store.connect import connect
from botify.streams.store.keys import default_namespace

PLAIN_SHARE = 60_000
"""Listens after which plain Faust is stopped; it is much slower."""


def measure_worker(settings: Settings, tracks: int) -> dict[str, Any]:
    """Fill a topic, let our worker and plain Faust fold it, and return listens per second and memory.

    Returns
    -------
    dict
        `listens_per_s`, `plain_faust_listens_per_s`, `ratio`, `rss_mib_at_200k`, `rss_mib_at_end`, `rss_ratio`,
        and `cpu_us` of both rates.
    """
    fill(settings, listens(BACKLOG, USERS, tracks))
    with running(settings, "botify.streams.worker") as worker:
        ours = drain(settings, default_namespace(settings.topic_prefix), BACKLOG, [worker])
    with running(settings, "botify.bench.plain_faust") as plain:
        theirs = drain(settings, PLAIN, PLAIN_SHARE, [plain])
    return {
        "listens_per_s": ours.per_s,
        "plain_faust_listens_per_s": theirs.per_s,
        "ratio": ours.per_s / theirs.per_s,
        **_growth(ours.memory),
        CPU_US: {"listens_per_s": ours.cpu_us, "plain_faust_listens_per_s": theirs.cpu_us},
    }


def measure_busy_worker(settings: Settings, tracks: int) -> dict[str, Any]:
    """Fill a topic, let our worker fold it while all cores are busy, and return what `measure_worker` does of it."""
    fill(settings, listens(BACKLOG, USERS, tracks))
    with busy_machine(), running(settings, "botify.streams.worker") as worker:
        drained = drain(settings, default_namespace(settings.topic_prefix), BACKLOG, [worker])
    return {"listens_per_s": drained.per_s, **_growth(drained.memory), CPU_US: {"listens_per_s": drained.cpu_us}}


def _growth(memory: Sequence[tuple[int, float]]) -> dict[str, float]:
    """Return how much memory a worker has after a fifth of the backlog and at its end, and the ratio."""
    early = next(rss for done, rss in memory if done >= BACKLOG // 5)
    return {"rss_mib_at_200k": early, "rss_mib_at_end": memory[-1][1], "rss_ratio": memory[-1][1] / early}


MEANWHILE_PER_S = 500
"""Listens a second that are sent during the replay."""


def measure_replay(settings: Settings, tracks: int) -> dict[str, Any]:
    """Fill a topic, let a worker fold it, and replay it into a new namespace while more listens are folded.

    Returns
    -------
    dict
        `listens` and `listens_per_s`, as `botify replay run` reports them; `compared_s`, the time to compare all
        digests with the live state after that; `equals_live` (1 or 0);
        `cpu_us`, the command's start and comparison included.
    """
    with _folded(settings, tracks), _listening(settings, tracks):
        meter = Meter()
        done = botify(settings, "replay", "run", "--json")
        spent_us = meter.us_per(done["records"], ended="replay")
    return {
        "listens_per_s": done["records"] / done["seconds"],
        "listens": float(done["records"]),
        "compared_s": done["compared_seconds"],
        "equals_live": float(done["equals_live"] is True),
        CPU_US: {"listens_per_s": spent_us},
    }


def measure_verify(settings: Settings, tracks: int) -> dict[str, Any]:
    """Fill a topic, let a worker fold it, and compare all of its state with the topic.

    Returns
    -------
    dict
        `listens` and `listens_per_s`, as `botify verify` reports them, comparison included; `ok` (1 or 0);
        `cpu_us`, the command's start included.
    """
    with _folded(settings, tracks):
        meter = Meter()
        done = botify(settings, "verify", "--json")
        spent_us = meter.us_per(done["listens"], ended="verify")
    return {
        "listens_per_s": done["listens"] / done["seconds"],
        "listens": float(done["listens"]),
        "ok": float(done["ok"]),
        CPU_US: {"listens_per_s": spent_us},
    }


@contextmanager
def _folded(settings: Settings, tracks: int) -> Iterator[None]:
    """Run a worker that has folded a backlog when the block begins."""
    fill(settings, listens(BACKLOG, USERS, tracks))
    with running(settings, "botify.streams.worker"):
        reader = StateReader(connect(settings), settings)
        wait_until(
            lambda: sum(reader.checkpoints().values()) >= BACKLOG, DEADLINE_S, f"not all {BACKLOG:,} listens are folded"
        )
        yield


@contextmanager
def _listening(settings: Settings, tracks: int) -> Iterator[None]:
    """Send listens inside the block."""
    over = threading.Event()

    def send() -> None:
        publisher, codec = RecordPublisher(settings), codec_of(settings)
        for listen in listens(int(DEADLINE_S * MEANWHILE_PER_S), USERS, tracks, seed=2):
            if over.wait(1 / MEANWHILE_PER_S):
                break
            publisher.send(Topics.of(settings).listens.name, codec.encode(listen), key_of(listen.user))
            publisher.poll()
        publisher.flush()

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def botify(settings: Settings, *arguments: str) -> dict[str, Any]:
    """Run a command in a process of its own, as operators do, and return what it prints as JSON."""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "botify.services.cli", *arguments],
        env={**os.environ, **settings.to_env()},
        stdout=subprocess.PIPE,
        check=True,
        timeout=DEADLINE_S,
    )
    outcome: dict[str, Any] = json.loads(done.stdout)
    return outcome


SINGLE_LISTENS, WARM_UP_LISTENS = 400, 50
PAUSE_S = 0.02
START_S, VISIBLE_S = 60.0, 10.0


def measure_visible(settings: Settings, tracks: int) -> dict[str, float]:
    """Send one listen at a time, read the state until it has it, and return `p50_ms` and `p99_ms`."""
    topic, codec = Topics.of(settings).listens.name, codec_of(settings)
    publisher = RecordPublisher(settings, linger_ms=0)
    reader = StateReader(connect(settings), settings)
    waits = []
    with running(settings, "botify.streams.worker"):
        for number, listen in enumerate(listens(SINGLE_LISTENS + WARM_UP_LISTENS, 200, tracks)):
            (before,) = reader.users([listen.user])
            seen = before.listens if before else 0
            sent = time.perf_counter()
            publisher.send(topic, codec.encode(listen), key_of(listen.user))
            publisher.poll()

            def visible(user: int = listen.user, seen: int = seen) -> bool:
                (state,) = reader.users([user])
                return state is not None and state.listens > seen

            # the first waits for the worker to start
            wait_until(visible, VISIBLE_S if number else START_S, f"{listen.event_id} is not in Redis", every_s=0)
            if number >= WARM_UP_LISTENS:
                waits.append((time.perf_counter() - sent) * 1000)
            time.sleep(PAUSE_S)
    return {"p50_ms": float(np.percentile(waits, 50)), "p99_ms": float(np.percentile(waits, 99))}
