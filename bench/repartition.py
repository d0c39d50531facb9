"""A million listens move from 4 to 16 partitions while listeners are served at a fixed rate."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from contextlib import ExitStack
from typing import Any

from botify.bench.backlog import BACKLOG, USERS, fill, listens
from botify.bench.gateway import WITHOUT_DASHBOARD, port_of
from botify.bench.loop import running, wait_until
from botify.bench.worker import botify
from botify.core.kafka.admin import end_offsets
from botify.core.kafka.layout import live_layout
from botify.core.kafka.reader import TopicReader
from botify.core.settings import Settings
from botify.schemas.dead_letters import originals_of
from botify.schemas.topics import Topics, create_topics
from botify.sim.loop.kafka import publish_catalogue
from botify.sim.world.model import World
from botify.streams.read import StateReader
from botify.streams.store.connect import connect
from botify.streams.verify import verify

PARTITIONS, WANTED = 4, 16
OFFERED_PER_S = 500.0
CONNECTIONS = 64
COPIES_PER_S = 25_000.0
"""What the copy may take from the programs that serve on the same two cores."""
WARM_UP_S, BEFORE_S, AFTER_S = 15.0, 10.0, 20.0
DEADLINE_S = 300.0


def measure_repartition(settings: Settings, world: World) -> dict[str, Any]:
    """Move the listens under load, and compare.

    Returns
    -------
    dict
        `next_per_s`, `p99_ms`, `longest_ms`, `failed`, `fallbacks` of the requests, from `BEFORE_S` before the move to
        `AFTER_S` after it; `seconds` and `waited_s` of the move, `copied`; `sequences_equal`: whether each listener has
        the same listens in the same order in both topics; `state_equal`: whether the state is the fold of the new one.
    """
    own = settings.with_(topic_prefix=f"{settings.topic_prefix}-{PARTITIONS}", partitions=PARTITIONS)
    tracks = len(world.catalogue)
    create_topics(own)
    publish_catalogue(own, world.catalogue)
    fill(own, listens(BACKLOG, USERS, tracks))
    with ExitStack() as programs:
        programs.enter_context(running(own, "botify.streams.worker"))
        programs.enter_context(running(own, "botify.services.recommender"))
        programs.enter_context(running(own, "botify.services.gateway", environ=WITHOUT_DASHBOARD))
        port = port_of(own)
        wait_until(lambda: _behind(own) == 0, DEADLINE_S, "the worker has not folded the backlog")
        load = [sys.executable, "-m", "botify.bench.gateway", port, str(tracks), "--connections", str(CONNECTIONS)]
        load += ["--rate", str(OFFERED_PER_S), "--warm-up", str(WARM_UP_S), "--until-closed"]
        with subprocess.Popen(load, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as listeners:  # noqa: S603
            time.sleep(WARM_UP_S + BEFORE_S)
            moved = botify(own, "replay", "repartition", "--to", str(WANTED), "--rate", str(COPIES_PER_S), "--json")
            time.sleep(AFTER_S)
            out, _ = listeners.communicate()
        served = json.loads(out)
        live = live_layout(own)
        wait_until(lambda: _behind(live) == 0, DEADLINE_S, "the worker has not folded the new topic")
    return {
        "next_per_s": served["per_s"],
        **{name: served[name] for name in ("p50_ms", "p99_ms", "longest_ms", "failed", "fallbacks")},
        **{name: float(moved[name]) for name in ("seconds", "waited_s", "copied", "left_out")},
        "sequences_equal": float(_sequences(own, copies=False) == _sequences(live, copies=True)),
        "state_equal": float(verify(live).ok),
    }


def _behind(settings: Settings) -> int:
    redis = connect(settings)
    try:
        folded = StateReader(redis, settings).checkpoints()
    finally:
        redis.close()
    return sum(end_offsets(settings, Topics.of(settings).listens.name).values()) - sum(folded.values())


def _sequences(settings: Settings, *, copies: bool) -> dict[bytes, bytes]:
    """Return a digest of each listener's listens in their order; of the copies alone, or of all."""
    digests: dict[bytes, Any] = {}
    reader = TopicReader(settings, Topics.of(settings).listens.name)
    try:
        for batch in reader.read_to_end():
            for message in batch:
                if not copies or originals_of(message):
                    digests.setdefault(message.key(), hashlib.sha256()).update(message.value())
    finally:
        reader.close()
    return {key: digest.digest() for key, digest in digests.items()}
