"""The closed loop at full speed, and how long an answer takes at a moderate load."""

from __future__ import annotations

from contextlib import ExitStack

from bench.process import rss_mib, running
from schemas.settings import Settings
from sim.loop import run_loop
from sim.options import RunOptions
from sim.world.model import World

LISTENERS = 2_000
SECONDS = 60.0
OFFERED_PER_S = 1_000.0
WARM_UP_S = 5.0
MEMORY_AT, MEMORY_UNTIL = 200_000, 1_000_000
"""Listens between which the processes' memory must not grow."""


def measure_loop(settings: Settings, world: World) -> tuple[dict[str, float], dict[str, float]]:
    """Run both, and return `closed_loop` and `latency`."""
    with ExitStack() as programs:
        worker = programs.enter_context(running(settings, "streams.worker"))
        recommender = programs.enter_context(running(settings, "services.recommender"))
        early: dict[str, float] = {}

        def watch(progress: object) -> None:
            if not early and getattr(progress, "listens", 0) >= MEMORY_AT:
                early.update(worker=rss_mib(worker), recommender=rss_mib(recommender))

        full = run_loop(settings, world, RunOptions(seconds=SECONDS, in_flight=LISTENERS), watch)
        closed_loop = {
            "recommendations_per_s": full.recommendations / full.wall_s,
            "listeners": float(LISTENERS),
            "seconds": full.wall_s,
            "recommendations": float(full.recommendations),
            "timed_out": float(full.timed_out),
        }
        left = max(1, MEMORY_UNTIL - full.listens)
        rest = run_loop(settings, world, RunOptions(listens=left, in_flight=LISTENERS))
        closed_loop["listens"] = float(full.listens + rest.listens)
        for name, process in (("worker", worker), ("recommender", recommender)):
            if name in early:
                closed_loop[f"{name}_rss_ratio"] = rss_mib(process) / early[name]
        # second, so that the broker's just-in-time compiler has seen the code: a service runs for days
        latency = run_loop(
            settings, world, RunOptions(rate=OFFERED_PER_S, seconds=30.0, warm_up_s=WARM_UP_S, in_flight=LISTENERS)
        )
    return closed_loop, {
        "offered_per_s": OFFERED_PER_S,
        "p50_ms": latency.latency.percentile(50),
        "p99_ms": latency.latency.percentile(99),
        "answers": float(latency.latency.count),
    }
