"""What it costs to decode one listen."""

from __future__ import annotations

import statistics
import time

from bench.backlog import listens
from schemas.codec import Codec
from schemas.events import Listen

EVENTS = 20_000
ROUNDS = 7


def measure_codec() -> dict[str, float]:
    """Return the median over some rounds, in µs an event."""
    codec = Codec()
    raw = [codec.encode(listen) for listen in listens(EVENTS, users=10_000, tracks=50_000)]
    rounds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for value in raw:
            codec.decode(value, Listen)
        rounds.append((time.perf_counter() - started) / EVENTS * 1e6)
    return {"decode_us": statistics.median(rounds)}
