"""`python -m botify.bench scale`: what the cost model is calibrated with and compared with, and what sizing uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from botify.bench.cpu import CPU_US
from botify.bench.scale.grid import COUNTS, measure_grid, of_partitions, rows_of
from botify.bench.scale.live import PARTITIONS, PER_S, measure_live
from botify.bench.scale.memory import state_bytes, track_bytes
from botify.core.settings import Settings
from botify.sim.world.model import World


def measure_scale(settings: Settings, world: World) -> dict[str, Mapping[str, Any]]:
    """Measure, about five minutes.

    Returns
    -------
    dict
        `scale`: `worst_error_percent` of the model; what a listen, a request of the closed loop and a `/next` take, at
        `PER_S`: `cpu_us`, bytes of records in Kafka, bytes to and from Redis; bytes of a listener and of a track in
        Redis, and of a track in each process and in the file that processes share.
        `scale_runs`: each number of workers and partitions; see `rows_of`.
    """
    grid = measure_grid(settings, world)
    state = state_bytes(of_partitions(settings, COUNTS[0]))
    listen, request, following = measure_live(settings, world)
    tracks = track_bytes(settings)
    rows = rows_of(grid)
    figures: dict[str, Any] = {
        "worst_error_percent": max(abs(row["error_percent"] or 0.0) for row in rows.values()),
        "listens_per_s": PER_S,
        "requests_per_s": PER_S,
        "next_per_s": following["per_s"],
        "partition_per_s": PER_S / PARTITIONS,
        "listen_kafka_bytes": listen.kafka_bytes,
        "request_kafka_bytes": request.kafka_bytes,
        "listen_redis_bytes": listen.redis_bytes,
        "request_redis_bytes": request.redis_bytes,
        "user_bytes": state.user,
        "track_bytes": state.track,
        **{f"{role}_track_bytes": size for role, size in tracks.items()},
        CPU_US: {
            "listens_per_s": listen.cpu_us,
            "requests_per_s": request.cpu_us,
            "next_per_s": following[CPU_US],
        },
    }
    return {"scale": figures, "scale_runs": rows}
