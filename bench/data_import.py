"""`python -m botify.bench.data_import [--record]`: ten million plays from CSV to a dataset: time and memory."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from botify.bench.export import measure
from botify.bench.figures import fill_pages, record
from botify.core.settings import Settings

USERS, ITEMS = 100_000, 500_000
CHUNK = 100_000
START_S, SPAN_S = 1_600_000_000, 30_000_000

console = Console()


def write_plays(path: Path, count: int) -> None:
    """Write plays in no order of time, with ids such as services have; few users and items have most of them."""
    rng = np.random.default_rng(0)
    with path.open("w", encoding="utf-8") as file:
        file.write("user,track,time,played,length\n")
        for first in range(0, count, CHUNK):
            rows = min(CHUNK, count - first)
            columns = (
                (rng.pareto(1.2, rows) * 3000).astype(np.int64) % USERS,
                (rng.pareto(0.8, rows) * 2000).astype(np.int64) % ITEMS,
                START_S + rng.integers(0, SPAN_S, rows),
                rng.integers(0, 400, rows),
                rng.integers(100, 400, rows),
            )
            file.writelines(
                f"user-{user},service:track:{item:022d},{time},{played},{length}\n"
                for user, item, time, played, length in zip(*(column.tolist() for column in columns), strict=True)
            )


def main(
    events: Annotated[int, typer.Option(help="Number of plays to import.")] = 10_000_000,
    keep: Annotated[
        bool, typer.Option("--record", help="Write the figures to docs/figures.json and into the pages.")
    ] = False,
) -> None:
    """Write a file, and import it in a process of its own."""
    with tempfile.TemporaryDirectory() as home:
        path = Path(home) / "plays.csv"
        with console.status(f"writing {events:,} plays"):
            write_plays(path, events)
        columns = "user=user,item=track,time=time,played=played,duration=length"
        arguments = ("data", "import", "csv", str(path), "--to", "plays", "--map", columns)
        took = measure(Settings.from_env().with_(home=Path(home)), "botify.services.cli", *arguments)
        size_mb = path.stat().st_size / 1e6
    console.print(
        f"{size_mb:,.0f} MB, {events:,} events: {took.seconds:.0f} s, {took.cpu_s:.0f} s CPU, "
        f"{took.peak_rss_mib:,.0f} MiB at most"
    )
    if keep:
        figures = {"size_mb": size_mb, "seconds": took.seconds, "cpu_s": took.cpu_s, "peak_mib": took.peak_rss_mib}
        record("data_import", f"python -m botify.bench.data_import --events {events} --record", figures)
        fill_pages()


if __name__ == "__main__":
    typer.run(main)
