"""One round: a deployment, listeners, and a number of faults; then the end is awaited and judged."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from random import Random
from typing import Any

from botify.core.kafka.admin import end_offsets
from botify.core.settings import Settings
from botify.schemas.events import Listen
from botify.schemas.topics import Topics
from botify.services.stack.embedded import EmbeddedStack
from botify.streams.read import StateReader
from botify.streams.store.connect import connect
from botify.streams.store.keys import checkpoint_key, default_namespace
from tests.chaos.programs import SESSION_TIMEOUT_S
from tests.integration.core.scraping import is_ready
from tests.learning import all_learned, assert_learned
from tests.soak.checker import FOLLOWED_S, acknowledged, judge_listens, judge_swaps, read_operations
from tests.soak.fleet import Fleet, repeatedly
from tests.soak.operations import TRACKS, Listener, Operations, Reader, replay_and_swap
from tests.support import (
    checkpoints,
    deployed,
    eventually,
    listens_of_users,
    offline_fold,
    read_events,
    redis_contents,
    write_catalogue,
)

PARTITIONS = 4
LISTENERS = 8
CALL_EVERY_S, READ_EVERY_S, SWAP_EVERY_S = 0.05, 0.2, 20.0
HIT_EVERY_S = (0.2, 3.0)
READY_S, SETTLED_S = 180.0, 300.0


def run_round(stack: EmbeddedStack, home: Path, seed: int, kills: int) -> dict[str, Any]:
    home.mkdir(parents=True, exist_ok=True)
    settings = deployed(stack.settings, home, partitions=PARTITIONS, session_timeout_s=SESSION_TIMEOUT_S)
    write_catalogue(settings, TRACKS)
    operations, rng = Operations(home / "operations.jsonl"), Random(seed)
    faults: Counter[str] = Counter()
    violations: list[str] = []
    with Fleet(stack, settings) as fleet:
        eventually(lambda: is_ready(settings.with_(metrics_port=fleet.port)), READY_S, "a gateway that is ready")
        with _load(operations, settings, fleet.port, seed):
            for _ in range(kills):
                time.sleep(rng.uniform(*HIT_EVERY_S))
                faults[fleet.hit(rng)] += 1
        frozen = _former(settings, home)
        try:
            eventually(lambda: _settled(settings), SETTLED_S, lambda: checkpoints(settings))
            violations += _judge(settings, home, frozen)
        except AssertionError as failed:
            violations.append(str(failed)[:2_000])
    listens = [one for one in read_operations(home / "operations.jsonl") if one["kind"] == "listen"]
    return {
        "seed": seed,
        "kills": kills,
        "faults": dict(faults),
        "acknowledged": len(acknowledged(listens)),
        "unknown": sum(one["status"] == 0 for one in listens),
        "refused": sum(one["status"] == 503 for one in listens),
        "swaps": operations.swaps,
        "ended": fleet.ended,
        "violations": violations,
    }


@contextmanager
def _load(operations: Operations, settings: Settings, port: int, seed: int) -> Iterator[None]:
    stopping = threading.Event()
    with ExitStack() as ending:
        ending.callback(stopping.set)
        threads = [
            repeatedly(Listener(operations, port, user, seed).call, stopping, CALL_EVERY_S) for user in range(LISTENERS)
        ]
        threads.append(repeatedly(Reader(operations, settings).read, stopping, READ_EVERY_S))
        threads.append(repeatedly(lambda: replay_and_swap(operations, settings), stopping, SWAP_EVERY_S))
        yield
    for thread in threads:
        thread.join(SETTLED_S)
        assert not thread.is_alive(), "a client has no answer and no error"


def _settled(settings: Settings) -> bool:
    end = {p: at for p, at in end_offsets(settings, Topics.of(settings).listens.name).items() if at}
    return checkpoints(settings) == end and all_learned(settings)


def _checkpoints_of(settings: Settings, namespace: str) -> dict[int, Any]:
    with closing(connect(settings)) as redis:
        return {p: redis.hgetall(checkpoint_key(namespace, p)) for p in range(PARTITIONS)}


def _former(settings: Settings, home: Path) -> dict[str, Any]:
    """Return the checkpoints of replaced namespaces, once nothing may write to them any more."""
    time.sleep(FOLLOWED_S)
    swaps = [one for one in read_operations(home / "operations.jsonl") if one["kind"] == "swap"]
    live = swaps[-1]["new"] if swaps else ""
    return {name: _checkpoints_of(settings, name) for name in {one["former"] for one in swaps} - {live}}


def _judge(settings: Settings, home: Path, frozen: dict[str, Any]) -> list[str]:
    operations, listens = read_operations(home / "operations.jsonl"), Topics.of(settings).listens
    contents = redis_contents(settings)
    wrong = judge_listens(operations, read_events(settings, listens, Listen), listens_of_users(contents))
    with closing(connect(settings)) as redis:
        live = StateReader(redis, settings).namespace
    now = {name: (then, _checkpoints_of(settings, name)) for name, then in frozen.items()}
    wrong += judge_swaps(operations, default_namespace(settings.topic_prefix), live, now)
    if contents != offline_fold(settings).contents():
        wrong.append("the state is not the fold of the topic")
    assert_learned(settings)
    return wrong
