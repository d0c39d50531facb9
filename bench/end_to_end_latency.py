"""How long after it is sent a listen is part of the state in Redis, at a light load."""

from __future__ import annotations

import itertools
import time

import numpy as np

from bench.loop import running
from bench.worker import listens
from core.kafka.config import key_of
from core.kafka.publisher import RecordPublisher
from core.settings import Settings
from schemas.registry import codec_of
from schemas.topics import Topics
from streams.read import StateReader
from streams.store.connect import connect

LISTENS = 400
PAUSE_S = 0.02
DEADLINE_S = 10.0


def measure_visible(settings: Settings, tracks: int) -> dict[str, float]:
    """Send one listen at a time, look until it is there, and return `p50_ms` and `p99_ms`."""
    topic, codec = Topics.of(settings).listens.name, codec_of(settings)
    publisher = RecordPublisher(settings, linger_ms=0)
    reader = StateReader(connect(settings), settings)
    waits = []
    with running(settings, "streams.worker"):
        for number, listen in enumerate(itertools.islice(listens(LISTENS + 50, 200, tracks), LISTENS + 50)):
            (before,) = reader.users([listen.user])
            seen = before.listens if before else 0
            sent = time.perf_counter()
            publisher.send(topic, codec.encode(listen), key_of(listen.user))
            publisher.poll()
            give_up = sent + (DEADLINE_S if number else 60.0)  # the first waits for the worker to start
            while True:
                (state,) = reader.users([listen.user])
                if state is not None and state.listens > seen:
                    break
                if time.perf_counter() > give_up:
                    raise TimeoutError(f"{listen.event_id} was not in Redis after {DEADLINE_S:.0f} s")
            if number >= 50:
                waits.append((time.perf_counter() - sent) * 1000)
            time.sleep(PAUSE_S)
    return {"p50_ms": float(np.percentile(waits, 50)), "p99_ms": float(np.percentile(waits, 99))}
