"""Workers on a backlog of listens, and a replay and a verification of it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from threading import Event
from typing import Any, NamedTuple

import numpy as np
import psutil

from botify.bench.cpu import CPU_US, Meter
from botify.bench.loop import is_alive, meanwhile, rss_mib, running, wait_until
from botify.core.kafka.config import key_of
from botify.core.kafka.publisher import RecordPublisher
from botify.core.settings import Settings
from botify.schemas.events import Listen
from botify.schemas.registry import codec_of
from botify.schemas.topics import Topics
from botify.streams.read import StateReader
from botify.streams.store.connect import connect

SESSION_LISTENS = 10
START_MS = 1_700_000_000_000
STEP_MS = 20  # event time between two listens of the whole service

BACKLOG, USERS = 1_000_000, 10_000
WARM = 0.1  # share of the work that is done before the clock starts: imports, claims and cold caches are not measured
LOOK_S, DEADLINE_S = 0.02, 300.0


def listens(count: int, users: int, tracks: int, seed: int = 1, since: int = 0) -> Iterator[Listen]:
    """Yield listens of many listeners in random order, ten a session; after `since` listens, in later sessions."""
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
    topic, codec = Topics.of(settings).listens.name, codec_of(settings)
    publisher = RecordPublisher(settings, linger_ms=20)
    for listen in backlog:
        publisher.send(topic, codec.encode(listen), key_of(listen.user))
    publisher.flush()


class Drained(NamedTuple):
    """How workers folded a backlog: listens a second, µs of CPU time a listen by role, and (listens, MiB) over time."""

    per_s: float
    cpu_us: dict[str, float]
    memory: list[tuple[int, float]]

    @property
    def growth(self) -> float:
        return self.memory[-1][1] / next(rss for done, rss in self.memory if done >= BACKLOG // 5)


def drain(count: Callable[[], int], until: int, workers: Sequence[psutil.Process], since: int = 0) -> Drained:
    """Measure workers until they have done this number of listens after `since`, from `WARM` of them on.

    Raises `TimeoutError`, also if one has ended.
    """
    memory: list[tuple[int, float]] = []
    started: tuple[float, int, Meter] | None = None
    give_up = time.monotonic() + DEADLINE_S
    while time.monotonic() < give_up and all(map(is_alive, workers)):
        done = count() - since
        now = time.perf_counter()
        memory.append((done, sum(map(rss_mib, workers))))
        if started is None and done >= WARM * until:
            started = (now, done, Meter())
        if done >= until and started is not None:
            began_s, before, meter = started
            return Drained((done - before) / (now - began_s), meter.us_per(done - before), memory)
        time.sleep(LOOK_S)
    raise TimeoutError(f"{memory[-1][0]:,} of {until:,} listens were done after {DEADLINE_S:.0f} s, or a process died")


def folded(settings: Settings) -> Callable[[], int]:
    """Return what says how many listens are in the live state."""
    checkpoints = StateReader(connect(settings), settings).checkpoints
    return lambda: sum(checkpoints().values())


def measure_worker(settings: Settings, tracks: int) -> dict[str, Any]:
    """Fill a topic, let a worker fold it, and return listens a second, their CPU time, and memory."""
    fill(settings, listens(BACKLOG, USERS, tracks))
    with running(settings, "botify.streams.worker") as worker:
        ours = drain(folded(settings), BACKLOG, [worker])
    return {"listens_per_s": ours.per_s, "rss_ratio": ours.growth, CPU_US: {"listens_per_s": ours.cpu_us}}


MEANWHILE_PER_S = 500  # listens a second that are sent during the replay


def measure_replay(settings: Settings, tracks: int) -> dict[str, Any]:
    """Let a worker fold a backlog, and replay it into a new namespace while more listens are folded."""
    with _backlog_folded(settings, tracks), meanwhile(partial(_send_listens, settings, tracks)):
        done, figures = _commanded(settings, "records", "replay", "run")
    return {**figures, "compared_s": done["compared_seconds"], "equals_live": float(done["equals_live"] is True)}


def measure_verify(settings: Settings, tracks: int) -> dict[str, Any]:
    """Let a worker fold a backlog, and compare all of its state with the topic, as `botify verify` reports it."""
    with _backlog_folded(settings, tracks):
        done, figures = _commanded(settings, "listens", "verify")
    return {**figures, "ok": float(done["ok"])}


@contextmanager
def _backlog_folded(settings: Settings, tracks: int) -> Iterator[None]:
    fill(settings, listens(BACKLOG, USERS, tracks))
    with running(settings, "botify.streams.worker"):
        count = folded(settings)
        late = f"not all {BACKLOG:,} listens are folded"
        wait_until(lambda: count() >= BACKLOG, DEADLINE_S, late)
        yield


def _send_listens(settings: Settings, tracks: int, over: Event) -> None:
    publisher, codec = RecordPublisher(settings), codec_of(settings)
    for listen in listens(int(DEADLINE_S * MEANWHILE_PER_S), USERS, tracks, seed=2):
        if over.wait(1 / MEANWHILE_PER_S):
            break
        publisher.send(Topics.of(settings).listens.name, codec.encode(listen), key_of(listen.user))
        publisher.poll()
    publisher.flush()


def _commanded(settings: Settings, count: str, *command: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run a command of `botify` in a process of its own, as operators do; return its JSON, and figures of its speed."""
    program, meter = [sys.executable, "-m", "botify.services.cli", *command, "--json"], Meter()
    ran = subprocess.run(  # noqa: S603
        program, env={**os.environ, **settings.to_env()}, stdout=subprocess.PIPE, check=True, timeout=DEADLINE_S
    )
    done = json.loads(ran.stdout)
    spent_us, listens = meter.us_per(done[count], ended=command[0]), float(done[count])
    rate = {"listens_per_s": listens / done["seconds"], "listens": listens}
    return done, {**rate, CPU_US: {"listens_per_s": spent_us}}
