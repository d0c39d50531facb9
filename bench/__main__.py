"""`python -m botify.bench [NAMES] [--record]`: run all or the named measurements, and print a table.

With `--record` the figures go to `docs/figures.json` and the pages that quote them; with `--against REV` another commit
is measured in turn with this one.
"""

from __future__ import annotations

import os

# As in the recommender, of which `retrieval` measures the CPU time: two threads would be counted twice, also idle.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import json
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from botify.bench import retrieval, worker
from botify.bench.against import THIS, Run, checked_out, flat, ratios_of, run_rounds, table_of
from botify.bench.cpu import CPU_US, load_average
from botify.bench.figures import fill_pages, provenance, record, table
from botify.bench.gateway import measure_gateway
from botify.bench.loop import measure_large_catalogue, measure_learned_loop, measure_loop
from botify.bench.peers import measure_peers
from botify.bench.scale import measure_scale
from botify.core.errors import BotifyError
from botify.core.process import tune_gc
from botify.core.settings import Settings
from botify.schemas.topics import create_topics
from botify.services.experiments import COURSE
from botify.services.stack.embedded import EmbeddedStack
from botify.sim.loop.kafka import publish_catalogue
from botify.sim.world import DEFAULT, open_world
from botify.sim.world.model import World

Figures = Mapping[str, Any]
Measurement = Callable[[Settings, World], Mapping[str, Figures]]

MEASUREMENTS: dict[str, Measurement] = {  # each on its own topics; one after another, as they share the cores
    "retrieval": lambda _settings, _world: {"retrieval": retrieval.measure_retrieval()},
    "loop": lambda settings, world: dict(zip(("closed_loop", "latency"), measure_loop(settings, world), strict=True)),
    "worker": lambda settings, world: {"worker": worker.measure_worker(settings, len(world.catalogue))},
    "peers": lambda settings, world: {"peers": measure_peers(settings, world)},
    "replay": lambda settings, world: {"replay": worker.measure_replay(settings, len(world.catalogue))},
    "verify": lambda settings, world: {"verify": worker.measure_verify(settings, len(world.catalogue))},
    "learned_loop": lambda settings, world: {"learned_loop": measure_learned_loop(settings, world)},
    "gateway": lambda settings, world: measure_gateway(settings, len(world.catalogue)),
    "large_catalogue": lambda settings, _world: {"large_catalogue": measure_large_catalogue(settings)},
    "scale": measure_scale,
}

AT_LEAST = {  # targets; the table shows what misses one in red
    "retrieval.recall": 0.95,
    "worker.listens_per_s": 50_000.0,
    "peers.kafka_streams.ratio": 5.0,
    "closed_loop.recommendations_per_s": 8_000.0,
    "replay.listens_per_s": 50_000.0,
    "replay.equals_live": 1.0,
    "verify.ok": 1.0,
    "learned_loop.recommendations_per_s": 6_000.0,
    "gateway.next_per_s": 1_200.0,
    "gateway_v1.share_of_next": 0.8,
}
AT_MOST = {
    "retrieval.p99_ms": 30.0,
    "large_catalogue.p99_ms": 30.0,
    "large_catalogue.peak_rss_mib": 1_536.0,
    "large_catalogue.restart_s": 10.0,
    "worker.rss_ratio": 1.2,
    "closed_loop.worker_rss_ratio": 1.2,
    "closed_loop.recommender_rss_ratio": 1.2,
    "latency.p50_ms": 8.0,
    "latency.p99_ms": 40.0,
    "gateway.p99_ms": 60.0,
    "gateway_v1.half_p99_ms": 60.0,
    "scale.worst_error_percent": 10.0,
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
    against: Annotated[str | None, typer.Option(help="Another commit to measure in turn with this one.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Number of rounds with --against.")] = 3,
    out: Annotated[Path | None, typer.Option("--json", help="File for the figures of all rounds.")] = None,
) -> None:
    """Measure the pipeline with real Kafka and Redis on this machine."""
    if unknown := set(names or ()) - set(MEASUREMENTS):
        raise typer.BadParameter(f"unknown: {', '.join(sorted(unknown))}; choose from {', '.join(MEASUREMENTS)}")
    if against is not None and keep:
        raise typer.BadParameter("--record is for figures of this commit alone; leave out --against")
    if against is None:
        _write(out, _measure(names or list(MEASUREMENTS), keep=keep))
    else:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the other commit is removed
        _compare(names or list(MEASUREMENTS), against, rounds, out)


def _measure(names: Sequence[str], *, keep: bool) -> list[Run]:
    settings = Settings.from_env()
    with console.status("opening the world"):
        world = open_world(settings.home, DEFAULT)
    tune_gc()  # as `botify sim`
    results: dict[str, Figures] = {}
    runs = []
    with tempfile.TemporaryDirectory() as home, EmbeddedStack(Path(home)) as stack:
        for name in names:
            own = stack.settings.with_(home=Path(home), topic_prefix=f"bench-{name}", experiments=COURSE)
            create_topics(own)
            publish_catalogue(own, world.catalogue)
            before = load_average()
            with console.status(f"measuring: {name}"):
                measured = MEASUREMENTS[name](own, world)
            runs.append(Run(name, 1, THIS, flat(measured)))
            results.update(measured)
            if keep:
                load = {"before": before, "after": load_average()}
                for group, figures in measured.items():
                    record(group, f"python -m botify.bench {name}", figures, load=load)
    console.print(_table(results))
    if keep:
        fill_pages()
    return runs


def _compare(names: Sequence[str], rev: str, rounds: int, out: Path | None) -> None:
    runs: list[Run] = []
    with checked_out(rev) as place, console.status("") as status:
        for run in run_rounds(names, rev, rounds, place, notify=status.update):
            runs.append(run)
            _write(out, runs)
    title = "{machine}, Python {python}, {date}, {commit}".format(**provenance())
    console.print(table_of(ratios_of(runs), rev, f"{title} against {rev}, {rounds} rounds"))


def _write(out: Path | None, runs: Sequence[Run]) -> None:
    if out is not None:
        text = json.dumps({**provenance(), "runs": [run._asdict() for run in runs]}, indent=1)
        out.write_text(text + "\n", encoding="utf-8")


def _table(results: Mapping[str, Figures]) -> Table:
    rows = []
    for group, figures in results.items():
        spent_us = figures.get(CPU_US, {})
        for name, value in flat({name: value for name, value in figures.items() if name != CPU_US}).items():
            key = f"{group}.{name}"
            least, most = AT_LEAST.get(key), AT_MOST.get(key)
            met = (least is None or value >= least) and (most is None or value <= most)
            wanted = f"≥ {least:,.6g}" if least is not None else f"≤ {most:,.6g}" if most is not None else ""
            shown = f"{value:,.0f}" if value >= 100 else f"{value:,.2f}"
            rows.append((key, shown if met else f"[red]{shown}[/]", wanted))
            if processes := ", ".join(f"{role} {us:,.1f}" for role, us in spent_us.get(name, {}).items()):
                rows.append((f"  CPU µs: {processes}", "", ""))
    title = "{machine}, Python {python}, {date}, {commit}".format(**provenance())
    return table(title, ("figure", "measured", "target"), rows, words=("figure",))


if __name__ == "__main__":
    try:
        typer.run(main)
    except BotifyError as error:
        sys.exit(str(error))
