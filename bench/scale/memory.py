"""Bytes of a user and a track: in Redis, and of a track in each process."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

import psutil

from botify.bench.gateway import WITHOUT_DASHBOARD, port_of
from botify.bench.loop import running, wait_until
from botify.core.kafka.publisher import RecordPublisher
from botify.core.settings import Settings
from botify.schemas.catalogue import send_missing_tracks
from botify.schemas.events import Track
from botify.schemas.registry import codec_of
from botify.schemas.topics import Topics, create_topics
from botify.services.stack.ports import find_free
from botify.streams.folds.likes import LIKES_OF_USERS
from botify.streams.folds.popularity import POPULARITY
from botify.streams.folds.sessions import OPEN_SESSIONS
from botify.streams.folds.users import USERS
from botify.streams.store.connect import connect
from botify.streams.store.keys import default_namespace, partition_key

CATALOGUES = (50_000, 250_000)
ARTIST_TRACKS = 12
READY_S = 60.0
SHARED = "shared"


class StateBytes(NamedTuple):
    """Bytes in Redis of a listener whose history is full, and of a track in a partition."""

    user: float
    track: float


def state_bytes(settings: Settings, partition: int = 0) -> StateBytes:
    """Ask Redis for the memory of a partition's state."""
    redis, namespace = connect(settings), default_namespace(settings.topic_prefix)

    def size(collection: str) -> float:
        return float(redis.memory_usage(partition_key(namespace, partition, collection), samples=0) or 0)

    def count(collection: str) -> int:
        return int(redis.hlen(partition_key(namespace, partition, collection)))

    try:
        users = sum(map(size, (USERS, LIKES_OF_USERS, OPEN_SESSIONS))) / count(USERS)
        return StateBytes(users, size(POPULARITY) / count(POPULARITY))
    finally:
        redis.close()


def track_bytes(settings: Settings) -> dict[str, float]:
    """Return the bytes of a track in each process, and in the file that those of a machine share, by two catalogues."""
    small, large = (_bytes_with(settings, tracks) for tracks in CATALOGUES)
    tracks = CATALOGUES[1] - CATALOGUES[0]
    return {role: max(0.0, large[role] - small[role]) / tracks for role in small}


def _bytes_with(settings: Settings, tracks: int) -> dict[str, float]:
    own = settings.with_(
        home=settings.home / f"{tracks}-tracks",  # logs in which no other gateway is ready
        topic_prefix=f"{settings.topic_prefix}-{tracks}",
        partitions=1,
    )
    create_topics(own)
    publisher = RecordPublisher(own, linger_ms=20)
    send_missing_tracks(publisher, Topics.of(own).catalogue.name, codec_of(own), _tracks(tracks), {})
    publisher.flush()
    found: dict[str, float] = {}
    with ExitStack() as programs:
        for role, module in (("worker", "botify.streams.worker"), ("recommender", "botify.services.recommender")):
            port = find_free()
            process = programs.enter_context(running(own.with_(metrics_port=port), module))
            wait_until(partial(_is_ready, port), READY_S, f"the {role} is not ready")
            found[role] = _uss(process)
        gateway = programs.enter_context(running(own, "botify.services.gateway", environ=WITHOUT_DASHBOARD))
        port_of(own)
        found["gateway"] = _uss(gateway)
    files = (own.home / "cache").glob(f"{Topics.of(own).catalogue.name}.*")
    found[SHARED] = float(sum(path.stat().st_size for path in files))
    return found


def _tracks(count: int) -> Iterator[Track]:
    for track in range(count):
        yield Track(
            track, f"artist {track // ARTIST_TRACKS}", f"album {track // ARTIST_TRACKS}", "rock", f"track {track}"
        )


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1.0) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _uss(process: psutil.Process) -> float:
    return float(process.memory_full_info().uss)
