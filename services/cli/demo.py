"""`botify demo`: from nothing to the table of an experiment, through the commands a person would type."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Annotated

import typer
from rich.console import Console

from core.settings import STACK_FILE, Settings
from services.errors import DemoError

EXPERIMENT = "STICKY_ARTIST"

console = Console()


def demo(
    listens: Annotated[int, typer.Option(min=1000, help="Number of listens to simulate.")] = 100_000,
    seed: Annotated[int, typer.Option(help="Random seed; the same seed gives the same listeners.")] = 1,
) -> None:
    """Simulate an A/B experiment of random against sticky_artist, and print the results.

    A running stack is used and left running. Otherwise a stack is started, and stopped at the end.
    """
    settings = Settings.from_env()
    own_stack = not (settings.home / STACK_FILE).exists()
    run_id = f"demo{int(time.time()):x}"
    try:
        if own_stack:
            _botify("up", "--no-gateway", why="Kafka, Valkey, a Faust worker, a learner and the recommender")
        _botify("sim", "run", f"--listens={listens}", f"--seed={seed}", f"--run-id={run_id}", why="listeners listen")
        _botify("verify", why="is the state in Redis what a plain fold of the topic gives?")
        _botify("experiment", "results", EXPERIMENT, f"--run={run_id}", why="which recommender kept them listening?")
        page = settings.home / "report.html"
        _botify("report", f"--out={page}", f"--run={run_id}", why="all of it on one page, for a browser")
    finally:
        if own_stack:
            _botify("down", why="stop everything; the data stays", check=False)
    console.print(
        "\nNext: [bold]botify up[/], then [bold]botify sim run[/] in one terminal and "
        "[bold]botify status --watch[/] in another (after [bold]. .venv/bin/activate[/])."
    )


def _botify(*arguments: str, why: str, check: bool = True) -> None:
    """Run a command of ours in a process of its own, so that what is shown is what a person would type."""
    console.print(f"\n[bold cyan]$ botify {' '.join(arguments)}[/]  [dim]# {why}[/]", soft_wrap=True)
    done = subprocess.run([sys.executable, "-m", "services.cli", *arguments], check=False)  # noqa: S603
    if done.returncode and check:
        raise DemoError(f"`botify {' '.join(arguments)}` ended with status {done.returncode}; its message is above")
