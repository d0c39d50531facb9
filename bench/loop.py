"""Botify's programs as child processes, and the loop of listeners through them, also with a million tracks."""

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil
from prometheus_client.parser import text_string_to_metric_families

from botify.bench.cpu import CPU_US, Meter, WarmMeter
from botify.core.settings import Settings
from botify.schemas.topics import create_topics
from botify.services.errors import ChildDiedError
from botify.services.stack.ports import HOST, find_free
from botify.services.stack.record import Watchdog
from botify.services.stack.server import ChildProcess
from botify.sim.loop import run_loop
from botify.sim.loop.kafka import publish_catalogue
from botify.sim.options import RunOptions
from botify.sim.play import Progress
from botify.sim.world import DEFAULT, open_world
from botify.sim.world.model import World


def is_alive(process: psutil.Process) -> bool:
    """Say whether a process runs; one that has ended may be there until it is waited for."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


@contextmanager
def meanwhile(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Do the work in a thread while the block runs; its event is set at the end of the block."""
    over = threading.Event()
    thread = threading.Thread(target=work, args=(over,))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def running(settings: Settings, module: str, environ: Mapping[str, str] | None = None) -> Iterator[psutil.Process]:
    """Run a module, and stop it at the end of the block; if it ended by itself, print the end of its log."""
    watchdog = Watchdog()
    command, env = [sys.executable, "-m", module], {**settings.to_env(), **(environ or {})}
    child = ChildProcess(module, command, log_path=settings.home / f"bench-{module}.log", watchdog=watchdog, env=env)
    try:
        child.spawn()
        yield psutil.Process(child.pid)
    finally:
        if not child.running:
            sys.stderr.write(child.death_notice())
        child.stop()
        watchdog.close()


def wait_until(done: Callable[[], bool], seconds: float, late: str, every_s: float = 0.1) -> None:
    """Poll until `done`; after `seconds`, raise a `TimeoutError` that begins with `late`."""
    give_up = time.monotonic() + seconds
    while not done():
        if time.monotonic() > give_up:
            raise TimeoutError(f"{late} after {seconds:.0f} s")
        time.sleep(every_s)


def is_ready(port: int) -> bool:
    try:
        with urlopen(f"http://{HOST}:{port}/readyz", timeout=1.0) as answer:
            return bool(answer.status == 200)
    except OSError:  # it does not listen yet, or answers 503
        return False


READY_S = 300.0  # how long a program may take until it serves; the first start compiles loops


def start(
    programs: ExitStack, settings: Settings, module: str, environ: Mapping[str, str] | None = None
) -> tuple[psutil.Process, int]:
    """Run a module until `programs` closes; return it once it is ready, and the port of its metrics.

    Raises `ChildDiedError` if it ends before, and `TimeoutError`.
    """
    port = find_free()
    own = settings.with_(metrics_host=HOST, metrics_port=port)
    process = programs.enter_context(running(own, module, {**(environ or {}), "BOTIFY_GATEWAY_PORT": str(port)}))
    wait_until(lambda: is_ready(port) or not is_alive(process), READY_S, f"{module} is not ready")
    if not is_alive(process):
        raise ChildDiedError(f"{module} ended before it was ready; the end of its log is above")
    return process, port


def rss_mib(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / 2**20


LISTENERS = 2_000
SECONDS = 60.0
OFFERED_PER_S = 1_000.0
WARM_UP_S = 5.0
MEMORY_AT, MEMORY_UNTIL = 200_000, 1_000_000  # listens between which the memory must not grow


def measure_loop(settings: Settings, world: World) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run the loop at full speed, then at a fixed rate, and return `closed_loop` and `latency`."""
    with ExitStack() as programs:
        worker = programs.enter_context(running(settings, "botify.streams.worker"))
        recommender = programs.enter_context(running(settings, "botify.services.recommender"))
        early: dict[str, float] = {}
        warm = WarmMeter()

        def watch(progress: Progress) -> None:
            warm.report(progress)
            if not early and progress.listens >= MEMORY_AT:
                early.update(worker=rss_mib(worker), recommender=rss_mib(recommender))

        full = run_loop(settings, world, RunOptions(seconds=SECONDS, in_flight=LISTENERS), watch)
        closed_loop: dict[str, Any] = {
            CPU_US: {"recommendations_per_s": warm.us_an_answer(full)},
            "recommendations_per_s": full.recommendations / full.wall_s,
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
        # after the full load, so that the broker's code is compiled just in time, as in a service that runs for days
        meter = Meter("simulator")
        options = RunOptions(rate=OFFERED_PER_S, seconds=30.0, warm_up_s=WARM_UP_S, in_flight=LISTENERS)
        latency = run_loop(settings, world, options)
        spent_us = meter.us_per(latency.recommendations)
    return closed_loop, {
        CPU_US: {"offered_per_s": spent_us},
        "offered_per_s": OFFERED_PER_S,
        "p50_ms": latency.latency.percentile(50),
        "p99_ms": latency.latency.percentile(99),
    }


CATCH_UP_S = 120.0


def experiment_file(name: str, recommenders: Mapping[str, str], share: int = 1, options: str = "") -> str:
    """Return a file with one experiment, of recommenders by treatment: first the control, which is the default, too.

    Each of the others has `share` listeners for each one of the control.
    """
    (control, default), *others = recommenders.items()
    treatments = [(control, default, 1), *((treatment, served, share) for treatment, served in others)]
    arms = ", ".join(f'{{ name = "{arm}", recommender = "{of}", share = {count} }}' for arm, of, count in treatments)
    return f'default = "{default}"\n[[experiment]]\nname = "{name}"\n{options}treatments = [{arms}]\n'


def measure_learned_loop(settings: Settings, world: World) -> dict[str, Any]:
    """Run the loop from empty models, with half of the listeners on `botify`; `*_behind_s` is the time to catch up.

    The learner has caught up once it has learned from all listens; its state is written in the next pause.
    """
    path = Path(settings.home) / "learned-loop.toml"
    path.write_text(experiment_file("LEARNED", {"C": "sticky_artist", "T1": "botify"}), encoding="utf-8")
    own = settings.with_(experiments=path)
    with ExitStack() as programs:
        ports = {name: start(programs, own, f"botify.streams.{name}")[1] for name in ("worker", "learner")}
        start(programs, own, "botify.services.recommender")
        warm = WarmMeter()
        done = run_loop(own, world, RunOptions(seconds=SECONDS, in_flight=LISTENERS), warm.report)
        spent_us = warm.us_an_answer(done)
        began = time.monotonic()
        behind_s = {}
        for name, port in ports.items():
            late = f"the {name} has not folded {done.listens:,} listens"
            wait_until(partial(_has_folded, name, port, done.listens), CATCH_UP_S, late, every_s=0.02)
            behind_s[f"{name}_behind_s"] = time.monotonic() - began
        return {
            "recommendations_per_s": done.recommendations / done.wall_s,
            "timed_out": float(done.timed_out),
            CPU_US: {"recommendations_per_s": spent_us},
            **behind_s,
        }


def _has_folded(program: str, port: int, listens: int) -> bool:
    """Say whether a program has folded so many listens since its start, by its metrics."""
    with urlopen(f"http://{HOST}:{port}/metrics", timeout=5.0) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    name = f"botify_{program}_listens_total"
    return any(s.value >= listens for family in families for s in family.samples if s.name == name)


TRACKS = 1_000_000
LARGE_PER_S, LARGE_S, LARGE_WARM_UP_S = 500.0, 90.0, 30.0
LOOK_EVERY_S = 0.1
BESIDE = ("streams.worker", "streams.learner", "services.gateway")  # beside the recommender


def measure_large_catalogue(settings: Settings) -> dict[str, Any]:
    """Serve listeners of a million tracks with `botify` at a fixed rate, and start the recommender again.

    Memory is that at the end; `peak_rss_mib` is the largest sum.
    """
    artists = TRACKS * DEFAULT.artists // DEFAULT.tracks
    world = open_world(settings.home, replace(DEFAULT, tracks=TRACKS, artists=artists))
    experiments = settings.home / "large-catalogue.toml"
    experiments.write_text('default = "botify"\n', encoding="utf-8")
    own = settings.with_(topic_prefix=f"{settings.topic_prefix}-large", experiments=experiments)
    create_topics(own)
    publish_catalogue(own, world.catalogue)
    with ExitStack() as programs:
        started = {name.partition(".")[2]: start(programs, own, f"botify.{name}")[0] for name in BESIDE}
        with ExitStack() as recommender:
            started["recommender"], _ = start(recommender, own, "botify.services.recommender")
            meter = Meter("simulator")
            options = RunOptions(rate=LARGE_PER_S, seconds=LARGE_S, warm_up_s=LARGE_WARM_UP_S, in_flight=LISTENERS)
            sums_mib: list[float] = []
            with meanwhile(partial(_add_up_memory, started.values(), sums_mib)):
                served = run_loop(own, world, options)
            spent_us = meter.us_per(served.recommendations)
            memory = {f"{name}_rss_mib": rss_mib(process) for name, process in started.items()}
        began = time.monotonic()
        start(programs, own, "botify.services.recommender")
        restart_s = time.monotonic() - began
    return {
        "offered_per_s": LARGE_PER_S,
        CPU_US: {"offered_per_s": spent_us},
        "p50_ms": served.latency.percentile(50),
        "p99_ms": served.latency.percentile(99),
        "timed_out": float(served.timed_out),
        "restart_s": restart_s,
        "peak_rss_mib": max(sums_mib),
        **memory,
    }


def _add_up_memory(processes: Iterable[psutil.Process], sums_mib: list[float], over: threading.Event) -> None:
    while not over.wait(LOOK_EVERY_S):
        sums_mib.append(sum(map(rss_mib, processes)))
