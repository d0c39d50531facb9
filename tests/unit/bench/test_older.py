"""Invariant: commits that measure no CPU time get it for the worker and the loops, with their own figures unchanged."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from botify.bench.older import EVERY, add_cpu_us

from botify.bench.cpu import WARM_LISTENS


def module_of(monkeypatch: pytest.MonkeyPatch, name: str, source: str = "", **contents: object) -> Any:
    """Return a module as another commit has it, with names of its own."""
    module = ModuleType(name)
    vars(module).update(contents)
    exec(source, vars(module))  # noqa: S102 - the text is below
    monkeypatch.setitem(sys.modules, name, module)
    return module


def progress(listens: int, recommendations: int) -> SimpleNamespace:
    return SimpleNamespace(listens=listens, recommendations=recommendations)


def test_first_run_of_the_loop_is_metered_once_it_is_warm(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def run_loop(_settings: object, _world: object, _options: object, report: Callable[..., None]) -> SimpleNamespace:
        report(progress(WARM_LISTENS - 1, 10))
        report(progress(WARM_LISTENS, 1_000))
        sum(range(3_000_000))  # some CPU time
        return progress(2 * WARM_LISTENS, 2_000)

    def measure() -> dict[str, dict[str, float]]:
        done = module.run_loop(0, 0, 0, lambda one: seen.append(one.recommendations))
        return {"closed_loop": {"recommendations": done.recommendations}, "latency": {"p50_ms": 1.0}}

    for name in [name for name in sys.modules if name.startswith("bench.")]:
        monkeypatch.delitem(sys.modules, name)
    module = module_of(monkeypatch, "botify.bench.loop", run_loop=run_loop)
    figures = add_cpu_us("loop", measure)()
    assert figures["closed_loop"]["cpu_us"]["recommendations_per_s"]["simulator"] > 0
    assert (figures["closed_loop"]["recommendations"], figures["latency"], seen) == (
        2_000,
        {"p50_ms": 1.0},
        [10, 1_000],
    )


WORKER = """
WARM = 0.1

def rss_mib(process):
    return 1.0

def _drain(settings, namespace, until, process):
    step = until // (10 * EVERY)
    return 5.0, [(done, rss_mib(process)) for done in range(0, until + 1, step)]

def measure():
    return {"worker": {"listens_per_s": _drain(0, "ours", 1_000, 0)[0], "plain": _drain(0, "", 400, 0)[0]}}
"""


def test_drains_of_the_worker_are_metered_from_the_warm_share_on(monkeypatch: pytest.MonkeyPatch) -> None:
    module = module_of(monkeypatch, "botify.bench.worker", WORKER, EVERY=EVERY)
    figures = add_cpu_us("worker", module.measure)()["worker"]
    assert (figures["listens_per_s"], figures["plain"]) == (5.0, 5.0)
    assert figures["cpu_us"].keys() == {"listens_per_s", "plain_faust_listens_per_s"}
    assert all(spent["all"] >= 0 for spent in figures["cpu_us"].values())


def test_other_measurements_are_left_as_they_are() -> None:
    def measure() -> dict[str, dict[str, float]]:
        return {"codec": {"decode_us": 1.0}}

    assert add_cpu_us("codec", measure) is measure


REPLAY = """
import subprocess, sys

def _replay(settings):
    subprocess.run([sys.executable, "-c", "sum(range(3_000_000))"], check=True)
    return {"records": 1_000, "seconds": 2.0}

def measure():
    done = _replay(0)
    return {"replay": {"listens_per_s": done["records"] / done["seconds"]}}
"""


def test_the_command_of_a_replay_is_metered(monkeypatch: pytest.MonkeyPatch) -> None:
    module = module_of(monkeypatch, "bench.replay", REPLAY)
    figures = add_cpu_us("replay", module.measure)()
    assert figures["replay"]["listens_per_s"] == 500.0
    assert figures["replay"]["cpu_us"]["listens_per_s"]["replay"] > 0
