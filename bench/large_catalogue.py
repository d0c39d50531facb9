"""Learn from and serve a catalogue of a million tracks: memory of all programs, latency of an answer, and a restart."""

import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from threading import Event
from typing import Any

import psutil

from botify.bench.cpu import CPU_US, Meter
from botify.bench.loop import meanwhile, rss_mib, running, wait_until_logged
from botify.core.settings import Settings
from botify.schemas.topics import create_topics
from botify.services.stack.ports import find_free
from botify.sim.loop import run_loop
from botify.sim.loop.kafka import publish_catalogue
from botify.sim.options import RunOptions
from botify.sim.world import DEFAULT, open_world

TRACKS = 1_000_000
OFFERED_PER_S = 500.0
SECONDS, WARM_UP_S = 90.0, 30.0
LISTENERS = 2_000
EXPERIMENTS = 'default = "botify"\n'
READY_S = 180.0
LOOK_EVERY_S = 0.1
PROGRAMS = {  # to its module, and what its log says once it works
    "worker": ("botify.streams.worker", "claimed partitions"),
    "learner": ("botify.streams.learner", "claimed partitions"),
    "gateway": ("botify.services.gateway", ": ready"),
    "recommender": ("botify.services.recommender", ": ready"),
}


def measure_large_catalogue(settings: Settings) -> dict[str, Any]:
    """Make the world, serve its listeners with `botify` at a fixed rate, and start the recommender again.

    Memory is that at the end, `pss` with what programs share divided by their number; `peak_rss_mib` is the largest
    sum.
    """
    began = time.monotonic()
    artists = TRACKS * DEFAULT.artists // DEFAULT.tracks
    world = open_world(settings.home, replace(DEFAULT, tracks=TRACKS, artists=artists))
    made = time.monotonic()
    experiments = settings.home / "large-catalogue.toml"
    experiments.write_text(EXPERIMENTS, encoding="utf-8")
    own = settings.with_(topic_prefix=f"{settings.topic_prefix}-large", experiments=experiments)
    create_topics(own)
    published_from = time.monotonic()
    publish_catalogue(own, world.catalogue)
    figures = {"world_s": made - began, "publish_s": time.monotonic() - published_from}
    with ExitStack() as programs:
        started = {name: _start(programs, own, name) for name in PROGRAMS if name != "recommender"}
        with ExitStack() as recommender:
            began = time.monotonic()
            started["recommender"] = _start(recommender, own, "recommender")
            figures["first_ready_s"] = time.monotonic() - began
            meter = Meter("simulator")
            options = RunOptions(rate=OFFERED_PER_S, seconds=SECONDS, warm_up_s=WARM_UP_S, in_flight=LISTENERS)
            sums_mib: list[float] = []
            with meanwhile(partial(_add_up_memory, started.values(), sums_mib)):
                served = run_loop(own, world, options)
            spent_us = meter.us_per(served.recommendations)
            memory = {"peak_rss_mib": max(sums_mib), **_memory(started)}
        began = time.monotonic()
        _start(programs, own, "recommender")
        figures["restart_s"] = time.monotonic() - began
    return {
        "tracks": float(TRACKS),
        "offered_per_s": OFFERED_PER_S,
        CPU_US: {"offered_per_s": spent_us},
        "p50_ms": served.latency.percentile(50),
        "p99_ms": served.latency.percentile(99),
        "timed_out": float(served.timed_out),
        **figures,
        **memory,
    }


def _start(programs: ExitStack, settings: Settings, name: str) -> psutil.Process:
    """Start a program in the folder that all share, as they share the catalogue kept there; return once it works."""
    module, working = PROGRAMS[name]
    process = programs.enter_context(running(settings, module, environ={"BOTIFY_GATEWAY_PORT": str(find_free())}))
    wait_until_logged(settings, module, working, READY_S)
    return process


def _add_up_memory(processes: Iterable[psutil.Process], sums_mib: list[float], over: Event) -> None:
    while not over.wait(LOOK_EVERY_S):
        sums_mib.append(sum(map(rss_mib, processes)))


def _memory(processes: dict[str, psutil.Process]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, process in processes.items():
        found[f"{name}_rss_mib"] = rss_mib(process)
        found[f"{name}_pss_mib"] = process.memory_full_info().pss / 2**20
    for kind in ("rss_mib", "pss_mib"):
        found[kind] = sum(value for name, value in found.items() if name.endswith(f"_{kind}"))
    return found
