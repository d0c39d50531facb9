"""What 200 people who look at the dashboard cost the loop."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

from bench.process import running
from schemas.settings import Settings
from services.stack.ports import find_free
from sim.loop import run_loop
from sim.options import RunOptions
from sim.world.model import World

VIEWERS = 200
LISTENERS = 2_000
SECONDS = 15.0
ROUNDS = 3
"""Of one stretch without and one with; taking turns, so that neither has the warmer machine."""

READY_S = 60.0


def measure_dashboard(settings: Settings, world: World) -> dict[str, float]:
    """Run the closed loop without the dashboard and with its viewers, in turns.

    Without, not even the gateway runs: the cost has the dashboard's own reading of Kafka and Redis in it, and the
    viewers' programs, which share the machine.

    Returns
    -------
    dict
        `viewers`, `updates_per_s` (of the median viewer); `without_per_s` and `with_per_s`, recommendations a second;
        `cost_percent`, of the median round.
    """
    without, with_viewers, seen = [], [], []
    with running(settings, "streams.worker"), running(settings, "services.recommender"):
        _loop(settings, world)  # warms up
        for _ in range(ROUNDS):
            without.append(_loop(settings, world))
            with _watched(settings) as reports:
                with_viewers.append(_loop(settings, world))
            seen += reports
    shares = [after / before for before, after in zip(without, with_viewers, strict=True)]
    return {
        "viewers": min(report["viewers"] for report in seen),
        "updates_per_s": min(report["updates_per_s"] for report in seen),
        "without_per_s": median(without),
        "with_per_s": median(with_viewers),
        "cost_percent": 100 * (1 - median(shares)),
    }


def _loop(settings: Settings, world: World) -> float:
    result = run_loop(settings, world, RunOptions(seconds=SECONDS, in_flight=LISTENERS))
    return result.recommendations / result.wall_s


@contextmanager
def _watched(settings: Settings) -> Iterator[list[dict[str, float]]]:
    """Run a gateway and its viewers inside the block; what they saw is in the list after it."""
    port = find_free()
    url = f"http://127.0.0.1:{port}/ui"
    reports: list[dict[str, float]] = []
    with running(settings, "services.gateway", environ={"BOTIFY_GATEWAY_PORT": str(port)}):
        _wait_for(f"{url}/")
        viewers = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "bench.viewers", url, str(VIEWERS)], stdout=subprocess.PIPE, text=True
        )
        assert viewers.stdout is not None  # noqa: S101 - a pipe was asked for
        try:
            viewers.stdout.readline()  # all pages are open
            yield reports
        finally:
            viewers.terminate()
            told, _ = viewers.communicate(timeout=30)
        reports.append(json.loads(told))


def _wait_for(url: str) -> None:
    give_up = time.monotonic() + READY_S
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()  # noqa: S310
        except (urllib.error.URLError, OSError) as error:
            if time.monotonic() > give_up:
                raise TimeoutError(f"{url} is not served after {READY_S:.0f} s: {error}") from error
            time.sleep(0.2)
        else:
            return
