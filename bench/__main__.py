"""`python -m bench`: measure, print a table, write `bench/results.json`; names of groups measure only these."""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.dashboard_load import measure_dashboard
from bench.end_to_end_latency import measure_visible
from bench.gateway import measure_gateway
from bench.loop import measure_loop, measure_mix_loop
from bench.micro import measure_codec, measure_user_model
from bench.next_track import measure_next_track
from bench.replay import measure_replay
from bench.worker import measure_worker
from core.settings import Settings
from schemas.topics import create_topics
from services.stack.embedded import EmbeddedStack
from sim.loop.kafka import publish_catalogue
from sim.world import WorldConfig, open_world
from sim.world.model import World

RESULTS = Path(__file__).parent / "results.json"

Figures = Mapping[str, float]
Measurement = Callable[[Settings, World], Mapping[str, Figures]]

MEASUREMENTS: Mapping[str, Measurement] = {
    "codec": lambda _settings, _world: {"codec": measure_codec()},
    "user_model": lambda _settings, world: {"user_model": measure_user_model(world)},
    "next_track": lambda _settings, _world: {"next_track": measure_next_track()},
    "loop": lambda settings, world: dict(zip(("closed_loop", "latency"), measure_loop(settings, world), strict=True)),
    "visible": lambda settings, world: {"visible": measure_visible(settings, len(world.catalogue))},
    "worker": lambda settings, world: {"worker": measure_worker(settings, len(world.catalogue))},
    "replay": lambda settings, world: {"replay": measure_replay(settings, len(world.catalogue))},
    "mix_loop": lambda settings, world: {"mix_loop": measure_mix_loop(settings, world)},
    "gateway": lambda settings, world: {"gateway": measure_gateway(settings, len(world.catalogue))},
    "dashboard": lambda settings, world: {"dashboard": measure_dashboard(settings, world)},
}
"""Each on topics of its own, one after the other: they share two cores."""

TARGETS = {
    "codec.decode_us": ("≤", 6.0),
    "user_model.listens_per_s": ("≥", 200_000.0),
    "next_track.learn_us": ("≤", 20.0),
    "next_track.rank_us": ("≤", 120.0),
    "next_track.rank_short_us": ("≤", 60.0),
    "worker.listens_per_s": ("≥", 50_000.0),
    "worker.ratio": ("≥", 6.0),
    "worker.rss_ratio": ("≤", 1.2),
    "visible.p50_ms": ("≤", 10.0),
    "closed_loop.recommendations_per_s": ("≥", 8_000.0),
    "closed_loop.worker_rss_ratio": ("≤", 1.2),
    "closed_loop.recommender_rss_ratio": ("≤", 1.2),
    "latency.p50_ms": ("≤", 8.0),
    "latency.p99_ms": ("≤", 40.0),
    "replay.listens_per_s": ("≥", 50_000.0),
    "replay.equals_live": ("≥", 1.0),
    "mix_loop.recommendations_per_s": ("≥", 6_000.0),
    "gateway.next_per_s": ("≥", 1_200.0),
    "gateway.p99_ms": ("≤", 60.0),
    "dashboard.cost_percent": ("≤", 10.0),
}

console = Console()


def main(names: Sequence[str] = ()) -> None:
    """Measure everything, or the groups of these names."""
    if unknown := set(names) - set(MEASUREMENTS):
        sys.exit(f"unknown measurements: {', '.join(sorted(unknown))}; choose from {', '.join(MEASUREMENTS)}")
    settings = Settings.from_env()
    with console.status("opening the world"):
        world = open_world(settings.home, WorldConfig())
    results: dict[str, Any] = {"machine": _machine()}
    with tempfile.TemporaryDirectory() as home, EmbeddedStack(Path(home)) as stack:
        for name in names or MEASUREMENTS:
            own = stack.settings.with_(home=Path(home), topic_prefix=f"bench-{name}")
            create_topics(own)
            publish_catalogue(own, world.catalogue)
            with console.status(f"measuring: {name}"):
                results.update(MEASUREMENTS[name](own, world))
    if not names:
        RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    console.print(_table(results))
    if not names:
        console.print(f"written to {RESULTS}", soft_wrap=True)


def _machine() -> dict[str, Any]:
    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        )
        if Path("/proc/cpuinfo").exists()
        else iter(()),
        platform.processor(),
    )
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": platform.system(),
        "time": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }


def _table(results: dict[str, Any]) -> Table:
    machine = results["machine"]
    table = Table(title=f"{machine['cores']} cores, {machine['cpu']}, Python {machine['python']}, {machine['time']}")
    for heading in ("figure", "measured", "target"):
        table.add_column(heading, justify="left" if heading == "figure" else "right")
    for group, figures in results.items():
        if group == "machine":
            continue
        for name, value in figures.items():
            key = f"{group}.{name}"
            shown = f"{value:,.0f}" if value >= 100 else f"{value:,.2f}"
            comparison, target = TARGETS.get(key, ("", 0.0))
            met = comparison == "" or (value >= target if comparison == "≥" else value <= target)
            wanted = f"{comparison} {target:,.6g}" if comparison else ""
            table.add_row(key, shown if met else f"[red]{shown}[/]", wanted)
    return table


if __name__ == "__main__":
    main(sys.argv[1:])
