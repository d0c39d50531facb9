"""What listeners did and were told, what readers read and the operator swapped: lines of a file, to be judged later."""

import asyncio
import json
import threading
import time
from pathlib import Path
from random import Random
from typing import Any

import httpx
import redis

from botify.core.errors import BotifyError
from botify.core.settings import Settings
from botify.streams.read import StateReader
from botify.streams.replay.sources import open_sources
from botify.streams.replay.swap import fold_into_namespace, swap
from botify.streams.store.connect import REDIS_ERRORS, connect
from tests.integration.streams.conftest import begin

EVENT_HEADER = "x-event-id"
TRACKS = 50
SESSION_CALLS = 12


class Operations:
    """Writes operations down, with their times."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", buffering=1)
        self._lock = threading.Lock()
        self.swaps = 0

    def note(self, kind: str, **what: Any) -> None:
        with self._lock:
            self._file.write(json.dumps({"kind": kind, "at_s": time.monotonic(), **what}) + "\n")


class Listener:
    """Calls the gateway, one call after the other, and notes what it was told."""

    def __init__(self, operations: Operations, port: int, user: int, seed: int) -> None:
        self._operations, self._user = operations, user
        self._rng = Random(f"{seed} {user}")
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10)
        self._calls = 0

    def call(self) -> None:
        """Say what was heard; with the last call of a session, that it is over."""
        self._calls += 1
        path = "last" if self._calls % SESSION_CALLS == 0 else "next"
        heard = {"track": self._rng.randrange(TRACKS), "time": round(self._rng.random(), 6)}
        began_s = time.monotonic()
        try:
            answer = self._client.post(f"/{path}/{self._user}", json=heard)
            status, event = answer.status_code, answer.headers.get(EVENT_HEADER)
        except httpx.TransportError as error:
            status, event = 0, repr(error)
        self._operations.note(
            "listen", user=self._user, number=self._calls, began_s=began_s, status=status, event=event, **heard
        )


class Reader:
    """Reads as a recommender does, and notes from which namespace."""

    def __init__(self, operations: Operations, settings: Settings) -> None:
        self._operations = operations
        self._redis = connect(settings)
        self._reader = StateReader(self._redis, settings)

    def read(self) -> None:
        began_s = time.monotonic()
        try:
            self._reader.users([1])
            namespace = self._reader.namespace
        except REDIS_ERRORS:
            return
        self._operations.note("read", began_s=began_s, namespace=namespace)


def replay_and_swap(operations: Operations, settings: Settings) -> None:
    """Replay the listens into a new namespace and make it live; a refusal or a lost server is noted."""
    try:
        former, new = asyncio.run(_replay_and_swap(operations, settings))
        operations.swaps += 1
        operations.note("swap", former=former, new=new)
    except (BotifyError, redis.RedisError, OSError) as error:
        operations.note("no swap", error=repr(error))


async def _replay_and_swap(operations: Operations, settings: Settings) -> tuple[str, str]:
    async with open_sources(settings) as sources:
        record = await begin(sources)
        record = await fold_into_namespace(sources, record)
        operations.note("swapping", new=record.namespace)
        return await swap(sources, record.id), record.namespace
