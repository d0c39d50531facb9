"""`python -m botify.bench.export [--record]`: export ten million listens to files, and compute a table from them.

One session of each listener is encoded once and sent repeatedly under new ids, so the topic is filled at the speed of
the broker.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import typer
from rich.console import Console

from botify.bench.figures import fill_pages, record
from botify.core.kafka.config import key_of
from botify.core.kafka.publisher import RecordPublisher
from botify.core.settings import Settings
from botify.schemas.events import Listen
from botify.schemas.registry import codec_of
from botify.schemas.topics import Topics, create_topics
from botify.services.stack.embedded import EmbeddedStack

USERS = 50_000
MEAN_LISTENS = 7
"""Of a session."""

START_MS = 1_700_000_000_000
DAYS = 7
DAY_MS = 24 * 60 * 60 * 1000
ROUND = b"@@@@@@"
"""Placeholder in the ids for the number of the round; occurs nowhere else in a body."""

console = Console()


def session_of_each(rng: np.random.Generator) -> Iterator[Listen]:
    """Yield a session of each listener; listeners with an odd id are treated and hear more."""
    mark = ROUND.decode()
    lengths = 2 + rng.poisson(MEAN_LISTENS - 2 + 0.5 * (np.arange(USERS) % 2))
    for user, length in enumerate(lengths.tolist()):
        session_id = f"bench-{user}-{mark}"
        start_ms = START_MS + int(rng.integers(DAYS * DAY_MS))
        fractions = rng.random(length).tolist()
        for position in range(length):
            yield Listen(
                event_id=f"{session_id}:{position}",
                user=user,
                track=int(rng.integers(50_000)),
                fraction=fractions[position],
                timestamp_ms=start_ms + position * 180_000,
                session_id=session_id,
                position=position,
                ended_session=position == length - 1,
                recommender="random" if position else None,
                treatments={"BENCH": "T1" if user % 2 else "C"} if position else {},
                propensity=2e-5 if position else None,
                latency_ms=4.2 if position else None,
            )


def fill(settings: Settings, count: int) -> None:
    """Write listens, and wait until they are acknowledged."""
    codec, topic = codec_of(settings), Topics.of(settings).listens.name
    bodies = [(key_of(e.user), codec.encode(e)) for e in session_of_each(np.random.default_rng(1))]
    publisher = RecordPublisher(settings, linger_ms=50, queue_buffering_max_messages=200_000)
    for i in range(count):
        number, place = divmod(i, len(bodies))
        key, body = bodies[place]
        publisher.send(topic, body.replace(ROUND, b"%06d" % number), key)
    publisher.flush(60)


class Measured(NamedTuple):
    """Time and memory of a command."""

    seconds: float
    cpu_s: float
    peak_rss_mib: float


def measure(settings: Settings, module: str, *arguments: str) -> Measured:
    """Run a module in a process."""
    started = time.perf_counter()
    child = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", module, *arguments], env={**os.environ, **settings.to_env()}
    )
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{module} {' '.join(arguments)} ended with status {child.returncode}")
    seconds = time.perf_counter() - started
    return Measured(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def main(
    listens: Annotated[int, typer.Option(help="Number of listens to export.")] = 10_000_000,
    *,
    keep: Annotated[
        bool, typer.Option("--record", help="Write the figures to docs/figures.json and into the pages.")
    ] = False,
) -> None:
    """Fill a topic, export it, and compute the table."""
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as home, EmbeddedStack(Path(home)) as stack:
        settings = stack.settings.with_(home=Path(home), topic_prefix="bench-export")
        create_topics(settings)
        started = time.perf_counter()
        with console.status(f"writing {listens:,} listens"):
            fill(settings, listens)
        console.print(f"{listens:,} listens written in {time.perf_counter() - started:.0f} s")
        out = Path(home) / "out"
        steps = {
            "export": ("botify.services.cli", "export", "--out", str(out)),
            "table": ("botify.services.cli", "experiment", "results", "BENCH", "--data", str(out)),
        }
        for name, arguments in steps.items():
            took = measure(settings, *arguments)
            figures |= {f"{name}_s": took.seconds, f"{name}_mib": took.peak_rss_mib}
            console.print(
                f"{name}: {took.seconds:.1f} s, {listens / took.seconds:,.0f} listens a second, "
                f"{took.cpu_s:.0f} s CPU, {took.peak_rss_mib:,.0f} MiB at most"
            )
    if keep:
        record("export", f"python -m botify.bench.export --listens {listens} --record", figures)
        fill_pages()


if __name__ == "__main__":
    typer.run(main)
