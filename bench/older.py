"""CPU time of commits whose benchmarks do not measure it, which are those before `bench/cpu.py`.

Their functions have the names and arguments of today's, so they are wrapped. It covers the worker on a backlog, the
closed loops at full speed, and replays. The other functions stand in for what they do not measure.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

LOOPS = {"loop": "closed_loop", "mix_loop": "mix_loop"}
"""Measurement -> group of the figures of its first run."""
EVERY = 20
"""Looks at the worker's progress between two readings of the CPU time, which cost more than a look."""


def add_cpu_us(name: str, measure: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Return the measurement with `cpu_us` in its figures; one of another kind as it is."""
    if name in LOOPS:
        return _of_loop(measure, LOOPS[name], _cpu())
    if name == "replay":
        return _of_replay(measure, _cpu())
    return _of_worker(measure, _cpu()) if name == "worker" else measure


def measure_verify(settings: Any, world: Any) -> dict[str, Any]:
    """Measure `botify verify`; see `bench.worker.measure_verify`."""
    replay: Any = importlib.import_module("bench.replay")
    replay.fill(settings, replay.LISTENS, replay.USERS, len(world.catalogue))
    with replay.running(settings, "streams.worker"):
        replay._wait_until_folded(settings)
        meter = _cpu().Meter()
        command = [sys.executable, "-m", "services.cli", "verify", "--json"]
        done = subprocess.run(  # noqa: S603
            command, env={**os.environ, **settings.to_env()}, stdout=subprocess.PIPE, check=True
        )
        report = json.loads(done.stdout)
        spent_us = meter.us_per(report["listens"], ended="verify")
    figures = {"listens_per_s": report["listens"] / report["seconds"], "listens": float(report["listens"])}
    return {"verify": {**figures, "ok": float(report["ok"]), "cpu_us": {"listens_per_s": spent_us}}}


def measure_busy_worker(settings: Any, world: Any) -> dict[str, Any]:
    """Measure the memory of a worker on a busy machine; see `bench.worker.measure_busy_worker`."""
    worker: Any = importlib.import_module("bench.worker")
    worker.fill(settings, worker.BACKLOG, worker.USERS, len(world.catalogue))
    with _cpu().busy_machine(), worker.running(settings, "streams.worker") as process:
        namespace = worker.default_namespace(settings.topic_prefix)
        rate, memory = worker._drain(settings, namespace, worker.BACKLOG, process)
    early = next(rss for done, rss in memory if done >= worker.BACKLOG // 5)
    figures = {"rss_mib_at_200k": early, "rss_mib_at_end": memory[-1][1], "rss_ratio": memory[-1][1] / early}
    return {"busy_worker": {"listens_per_s": rate, **figures}}


def _of_replay(measure: Callable[..., dict[str, Any]], cpu: ModuleType) -> Callable[..., dict[str, Any]]:
    found: list[dict[str, float]] = []

    def metered(replay: Callable[..., Any]) -> Callable[..., Any]:
        def run(settings: object) -> Any:
            meter = cpu.Meter()
            done = replay(settings)
            found.append(meter.us_per(done["records"], ended="replay"))
            return done

        return run

    def measured(*arguments: object) -> dict[str, Any]:
        module: Any = importlib.import_module("bench.replay")
        module._replay = metered(module._replay)
        figures = measure(*arguments)
        figures["replay"]["cpu_us"] = {"listens_per_s": found[0]}
        return figures

    return measured


def _of_loop(measure: Callable[..., dict[str, Any]], group: str, cpu: ModuleType) -> Callable[..., dict[str, Any]]:
    found: list[dict[str, float]] = []

    def metered(run_loop: Callable[..., Any]) -> Callable[..., Any]:
        def run(settings: object, world: object, options: object, report: Callable[..., None] | None = None) -> Any:
            meter = cpu.WarmMeter()

            def watch(progress: Any) -> None:
                meter.report(progress)
                if report is not None:
                    report(progress)

            done = run_loop(settings, world, options, watch)
            found.append(meter.us_an_answer(done))
            return done

        return run

    def measured(*arguments: object) -> dict[str, Any]:
        modules: list[Any] = [one for name, one in sys.modules.items() if name.startswith("bench.")]
        for module in modules:
            if hasattr(module, "run_loop"):
                module.run_loop = metered(module.run_loop)
        figures = measure(*arguments)
        figures[group]["cpu_us"] = {"recommendations_per_s": found[0]}
        return figures

    return measured


def _of_worker(measure: Callable[..., dict[str, Any]], cpu: ModuleType) -> Callable[..., dict[str, Any]]:
    found: list[dict[str, float]] = []

    def metered(module: Any) -> Callable[..., Any]:
        drain, rss_mib = module._drain, module.rss_mib

        def run(settings: object, namespace: str, until: int, process: object) -> Any:
            number, meters = count(), {}

            def look(process: object) -> Any:
                if (at := next(number)) % EVERY == 0:
                    meters[at] = cpu.Meter()
                return rss_mib(process)

            module.rss_mib = look
            rate, memory = drain(settings, namespace, until, process)
            first = next((at for at in meters if memory[at][0] >= module.WARM * until), 0)
            found.append(meters[first].us_per(memory[-1][0] - memory[first][0]))
            return rate, memory

        return run

    def measured(*arguments: object) -> dict[str, Any]:
        module: Any = sys.modules["bench.worker"]
        module._drain = metered(module)
        figures = measure(*arguments)
        figures["worker"]["cpu_us"] = dict(zip(("listens_per_s", "plain_faust_listens_per_s"), found, strict=True))
        return figures

    return measured


def _cpu() -> ModuleType:
    """Load this commit's `bench/cpu.py` beside the other commit's `bench`."""
    spec = importlib.util.spec_from_file_location("cpu_of_newer", Path(__file__).with_name("cpu.py"))
    assert spec is not None  # noqa: S101 - for the type checker
    assert spec.loader is not None  # noqa: S101 - for the type checker
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
