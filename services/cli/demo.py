"""`botify demo`: an experiment from the first start to its results, with the commands that a user would type."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Annotated

import typer

from botify.core.cli import console
from botify.core.settings import STACK_FILE, Settings
from botify.services.errors import DemoError
from botify.services.experiments import load_policy

EXPERIMENT = "STICKY_ARTIST"


def demo(
    listens: Annotated[int, typer.Option(min=1000, help="Number of listens to simulate.")] = 100_000,
    seed: Annotated[int, typer.Option(help="Random seed; the same seed gives the same listeners.")] = 1,
) -> None:
    """Simulate an A/B experiment of random against sticky_artist, and print the results.

    A running stack is used and left running. Otherwise a stack is started, and stopped at the end.
    """
    settings = Settings.from_env()
    own_stack = not (settings.home / STACK_FILE).exists()
    served = load_policy(settings)
    if not own_stack and EXPERIMENT not in [one.name for one in served.experiments]:
        raise DemoError(f"the stack in {settings.home} serves {served}; stop it with `botify down`")
    run_id = f"demo{int(time.time()):x}"
    try:
        if own_stack:
            _botify(
                "up",
                "--gateways=0",
                "--experiments=course",
                why="start Kafka, Valkey, a Faust worker, a learner and the recommender",
            )
        _botify("sim", f"--listens={listens}", f"--seed={seed}", f"--set=run_id={run_id}", why="simulate listeners")
        _botify("verify", why="compare the state in Redis with a fold of the topic")
        _botify("experiment", "results", EXPERIMENT, f"--run={run_id}", why="compare the recommenders")
        page = settings.home / "report.html"
        _botify("report", f"--out={page}", f"--run={run_id}", why="write all results to one HTML page")
    finally:
        if own_stack:
            _botify("down", why="stop everything; the data is kept", check=False)
    console.print(
        "\nNext: [bold]botify up[/], then [bold]botify sim[/] in one terminal and "
        "[bold]botify status --watch[/] in another (after [bold]. .venv/bin/activate[/])."
    )


def _botify(*arguments: str, why: str, check: bool = True) -> None:
    """Print a `botify` command, and run it as a user would: in its own process."""
    console.print(f"\n[bold cyan]$ botify {' '.join(arguments)}[/]  [dim]# {why}[/]", soft_wrap=True)
    done = subprocess.run([sys.executable, "-m", "botify.services.cli", *arguments], check=False)  # noqa: S603
    if done.returncode and check:
        raise DemoError(f"`botify {' '.join(arguments)}` ended with status {done.returncode}; its message is above")
