"""How fast a topic is folded into a new namespace while listeners go on listening and a worker folds what they do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bench.loop import running
from bench.worker import fill, listens
from core.kafka.config import key_of
from core.kafka.publisher import RecordPublisher
from core.settings import Settings
from schemas.registry import codec_of
from schemas.topics import Topics
from streams.read import StateReader
from streams.store.connect import connect

LISTENS = 1_000_000
USERS = 10_000
MEANWHILE_PER_S = 500
DEADLINE_S = 300.0


def measure_replay(settings: Settings, tracks: int) -> dict[str, float]:
    """Fill a topic, let a worker fold it, and replay it.

    Returns
    -------
    dict
        `listens` and `listens_per_s`, as `botify replay run` says them; `compared_s`, what the comparison of all
        digests with the live state took after that; `equals_live` (1 or 0).
    """
    fill(settings, LISTENS, USERS, tracks)
    with running(settings, "streams.worker"):
        _wait_until_folded(settings)
        with _listening(settings, tracks):
            done = _replay(settings)
    return {
        "listens_per_s": done["records"] / done["seconds"],
        "listens": float(done["records"]),
        "compared_s": done["compared_seconds"],
        "equals_live": float(done["equals_live"] is True),
    }


def _wait_until_folded(settings: Settings) -> None:
    reader = StateReader(connect(settings), settings)
    give_up = time.monotonic() + DEADLINE_S
    while (done := sum(reader.checkpoints().values())) < LISTENS:
        if time.monotonic() > give_up:
            raise TimeoutError(f"the worker folded {done:,} of {LISTENS:,} listens in {DEADLINE_S:.0f} s")
        time.sleep(0.1)


@contextmanager
def _listening(settings: Settings, tracks: int) -> Iterator[None]:
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


def _replay(settings: Settings) -> dict[str, Any]:
    """Run the command in a process of its own, as operators do."""
    done = subprocess.run(
        [sys.executable, "-m", "services.cli", "replay", "run", "--json"],
        env={**os.environ, **settings.to_env()},
        stdout=subprocess.PIPE,
        check=True,
        timeout=DEADLINE_S,
    )
    outcome: dict[str, Any] = json.loads(done.stdout)
    return outcome
