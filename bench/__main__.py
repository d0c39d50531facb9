"""`python -m bench [NAMES] [--record]`: run all or the named measurements, and print a table.

With `--record` the figures go to `docs/figures.json`, and from there to the pages that quote them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench.dashboard_load import measure_dashboard
from bench.figures import fill_pages, provenance, record
from bench.gateway import measure_gateway
from bench.loop import measure_loop, measure_mix_loop
from bench.micro import measure_codec, measure_user_model
from bench.next_track import measure_next_track
from bench.worker import measure_replay, measure_visible, measure_worker
from core.settings import Settings
from schemas.topics import create_topics
from services.stack.embedded import EmbeddedStack
from sim.loop.kafka import publish_catalogue
from sim.world import DEFAULT, open_world
from sim.world.model import World

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
"""Measurements, each on its own topics; they run one after another, as they share the cores."""

TARGETS = {
    "codec.decode_us": ("≤", 6.0),
    "user_model.listens_per_s": ("≥", 500_000.0),
    "user_model.streaming_listens_per_s": ("≥", 500_000.0),
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


def main(
    names: Annotated[
        list[str] | None, typer.Argument(help=f"What to measure: {', '.join(MEASUREMENTS)}. Default: everything.")
    ] = None,
    *,
    keep: Annotated[
        bool, typer.Option("--record", help="Write the figures to docs/figures.json and into the pages.")
    ] = False,
) -> None:
    """Measure the pipeline with real Kafka and Redis on this machine."""
    if unknown := set(names or ()) - set(MEASUREMENTS):
        raise typer.BadParameter(f"unknown: {', '.join(sorted(unknown))}; choose from {', '.join(MEASUREMENTS)}")
    settings = Settings.from_env()
    with console.status("opening the world"):
        world = open_world(settings.home, DEFAULT)
    results: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory() as home, EmbeddedStack(Path(home)) as stack:
        for name in names or MEASUREMENTS:
            own = stack.settings.with_(home=Path(home), topic_prefix=f"bench-{name}")
            create_topics(own)
            publish_catalogue(own, world.catalogue)
            with console.status(f"measuring: {name}"):
                measured = MEASUREMENTS[name](own, world)
            results.update(measured)
            if keep:
                for group, figures in measured.items():
                    record(group, f"python -m bench {name}", figures)
    console.print(_table(results))
    if keep:
        fill_pages()


def _table(results: Mapping[str, Figures]) -> Table:
    table = Table(title="{machine}, Python {python}, {date}, {commit}".format(**provenance()))
    for heading in ("figure", "measured", "target"):
        table.add_column(heading, justify="left" if heading == "figure" else "right")
    for group, figures in results.items():
        for name, value in figures.items():
            key = f"{group}.{name}"
            shown = f"{value:,.0f}" if value >= 100 else f"{value:,.2f}"
            comparison, target = TARGETS.get(key, ("", 0.0))
            met = comparison == "" or (value >= target if comparison == "≥" else value <= target)
            wanted = f"{comparison} {target:,.6g}" if comparison else ""
            table.add_row(key, shown if met else f"[red]{shown}[/]", wanted)
    return table


if __name__ == "__main__":
    typer.run(main)
