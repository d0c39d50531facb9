"""What it costs to decode a listen, by itself and as one of a worker's run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from bench.backlog import listens
from schemas.codec import Codec
from schemas.events import Listen

EVENTS = 12_000
ROUNDS = 7


def measure_codec() -> dict[str, float]:
    """Return the median over some rounds, in µs an event."""
    codec = Codec()
    raw = [codec.encode(listen) for listen in listens(EVENTS, users=10_000, tracks=50_000)]
    return {
        "decode_us": _median_us(lambda: [codec.decode(value, Listen) for value in raw]),
        "decode_many_us": _median_us(lambda: codec.decode_many(raw, Listen)),
    }


def _median_us(decode_all: Callable[[], object]) -> float:
    rounds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        decode_all()
        rounds.append((time.perf_counter() - started) / EVENTS * 1e6)
    return statistics.median(rounds)
