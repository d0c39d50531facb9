"""A backlog: listens in the topic before anybody reads them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from confluent_kafka import Producer

from schemas import clients
from schemas.events import Listen
from schemas.registry import codec_of
from schemas.settings import Settings
from schemas.topics import Topics

SESSION_LISTENS = 10
START_MS = 1_700_000_000_000
STEP_MS = 20
"""Event time between two listens of the whole service."""


def listens(count: int, users: int, tracks: int, seed: int = 1) -> Iterator[Listen]:
    """Yield listens of many listeners, all mixed up: any track, any share, ten listens a session."""
    rng = np.random.default_rng(seed)
    who = rng.integers(users, size=count).tolist()
    what = rng.integers(tracks, size=count).tolist()
    share = rng.integers(101, size=count).tolist()
    heard = [0] * users
    for i, (user, track, percent) in enumerate(zip(who, what, share, strict=True)):
        session, position = divmod(heard[user], SESSION_LISTENS)
        heard[user] += 1
        session_id = f"backlog-{user}-{session}"
        yield Listen(
            event_id=f"{session_id}:{position}",
            user=user,
            track=track,
            fraction=percent / 100,
            timestamp_ms=START_MS + i * STEP_MS,
            session_id=session_id,
            position=position,
            ended_session=position == SESSION_LISTENS - 1,
            recommender="sticky_artist",
            treatments={"STICKY_ARTIST": "T1"},
            propensity=0.05,
            latency_ms=4.2,
        )


def fill(settings: Settings, count: int, users: int, tracks: int) -> None:
    """Write the backlog, and wait until it is acknowledged."""
    topic, codec = Topics.of(settings).listens.name, codec_of(settings)
    producer = Producer(clients.producer_config(settings, linger_ms=20))
    for i, listen in enumerate(listens(count, users, tracks)):
        producer.produce(topic, key=clients.key_of(listen.user), value=codec.encode(listen))
        if i % 50_000 == 49_999:
            producer.flush()
    producer.flush()
