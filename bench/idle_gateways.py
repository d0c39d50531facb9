"""What idle gateways take of the loop: none, one and ten of them, in turn."""

from __future__ import annotations

from contextlib import ExitStack
from statistics import median
from typing import Any

from botify.bench.cpu import CPU_US, Meter, medians
from botify.bench.loop import running, wait_until_logged
from botify.core.settings import Settings
from botify.services.stack.ports import find_free
from botify.sim.loop import run_loop
from botify.sim.options import RunOptions
from botify.sim.world.model import World

COUNTS = (0, 1, 10)
LISTENERS = 2_000
SECONDS = 10.0
ROUNDS = 4
"""Each has all counts, so that they see the same machine, and every other one in reverse: the topics grow meanwhile."""
READY_S = 120.0


def measure_idle_gateways(settings: Settings, world: World) -> dict[str, Any]:
    """Run the closed loop beside idle gateways with their dashboards, which nobody watches.

    Returns
    -------
    dict
        `none_per_s`, `one_per_s` and `ten_per_s`, recommendations a second; `one_percent` and `ten_percent`, what is
        lost of the rate without gateways in the median round; `cpu_us` of the rates.
    """
    rates: dict[int, list[float]] = {count: [] for count in COUNTS}
    spent_us: dict[int, list[dict[str, float]]] = {count: [] for count in COUNTS}
    with running(settings, "botify.streams.worker"), running(settings, "botify.services.recommender"):
        _loop(settings, world)  # warms up
        for number in range(ROUNDS):
            for count in COUNTS if number % 2 == 0 else reversed(COUNTS):
                with ExitStack() as gateways:
                    for gateway in range(count):
                        _start_gateway(gateways, settings.with_(home=settings.home / f"gateway-{gateway}"))
                    meter = Meter("simulator")
                    rates[count].append(_loop(settings, world))
                    spent_us[count].append(meter.us_per(rates[count][-1] * SECONDS))
    names = dict(zip(COUNTS, ("none", "one", "ten"), strict=True))
    return {
        **{f"{names[count]}_per_s": median(of_count) for count, of_count in rates.items()},
        **{f"{names[count]}_percent": _lost_percent(rates[0], rates[count]) for count in COUNTS[1:]},
        CPU_US: {f"{names[count]}_per_s": medians(of_count) for count, of_count in spent_us.items()},
    }


def _lost_percent(without: list[float], beside: list[float]) -> float:
    return 100 * (1 - median(late / early for early, late in zip(without, beside, strict=True)))


def _loop(settings: Settings, world: World) -> float:
    result = run_loop(settings, world, RunOptions(seconds=SECONDS, in_flight=LISTENERS))
    return result.recommendations / result.wall_s


def _start_gateway(gateways: ExitStack, settings: Settings) -> None:
    settings.home.mkdir(exist_ok=True)
    gateways.enter_context(
        running(settings, "botify.services.gateway", environ={"BOTIFY_GATEWAY_PORT": str(find_free())})
    )
    wait_until_logged(settings, "botify.services.gateway", ": ready", READY_S)
