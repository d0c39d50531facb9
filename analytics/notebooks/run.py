"""Everything from nothing: a stack, the run that the notebooks tell of, and the notebooks.

    python -m analytics.notebooks.run            # writes the outputs into the notebooks
    python -m analytics.notebooks.run --small    # on a little data, in a minute, and writes nothing

A stack that already runs in `BOTIFY_HOME` is not touched: the run has a home of its own, which is removed at the end.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated

import typer
from nbformat import NotebookNode
from rich.console import Console

from analytics.errors import AnalyticsError
from analytics.notebooks.execute import complaints, execute, text_of
from analytics.notebooks.story import (
    BEFORE,
    FULL,
    HERE,
    MODEL,
    PACED,
    PERIODS,
    REQUESTS_PER_S,
    SMALL,
    WORLD,
    Period,
    Size,
)

COMMAND_TIMEOUT_S = 900
console = Console()


def notebooks() -> list[Path]:
    """Return the notebooks, in the order of reading."""
    return sorted(HERE.glob("[0-9][0-9]_*.ipynb"))


def simulate(home: Path, size: Size) -> None:
    """Make the run that the notebooks tell of, and leave the stack running.

    The recommender reads its experiments when it starts, so the stack is started once for each period. Lists are built
    from what was heard before the experiment, and serve in it.

    Raises
    ------
    AnalyticsError
        A command failed.
    """
    for period, days in zip(PERIODS, size.days, strict=True):
        environment = _environment(home, period)
        _botify(["down"], environment, check=False)
        _botify(["up", "--no-gateway"], environment)
        _botify(["world", "generate", f"--config={WORLD}"], environment)
        (world,) = (path.name for path in (home / "worlds").iterdir())
        _listen(home, period, world=world, users=size.users, days=days)
        if period is BEFORE:
            _botify(["lists", "build", "--from-topic"], environment)
    _listen(home, PACED, world=world, users=size.users, rate=REQUESTS_PER_S, seconds=size.paced_s)


def _listen(home: Path, period: Period, **options: object) -> None:
    of_period = {"model": MODEL, "seed": period.seed, "start": period.start, "run-id": period.run_id}
    arguments = [f"--{name}={value}" for name, value in {**options, **of_period}.items()]
    _botify(["sim", "run", *arguments], _environment(home, period))


def main(
    *,
    small: Annotated[bool, typer.Option("--small", help="Use little data and write no notebooks, as CI does.")] = False,
    home: Annotated[
        Path | None,
        typer.Option(help="Data directory of the run; it is created if missing, and its stack is left running."),
    ] = None,
    only: Annotated[str, typer.Option(help="Run only notebooks whose names begin with this.")] = "",
) -> None:
    """Run the notebooks, and write them with their outputs if nothing complains."""
    size = SMALL if small else FULL
    with simulated(size) if home is None else nullcontext(home.absolute()) as place:
        if not (place / "worlds").exists():
            simulate(place, size)
        for path in notebooks():
            if path.name.startswith(only):
                began_s = time.monotonic()
                text = text_of(run_notebook(path, place))
                if not small:
                    path.write_text(text, encoding="utf-8")
                took_s = time.monotonic() - began_s
                console.print(f"{path.name}: {took_s:.0f} s, {len(text) / 1024:,.0f} KB", highlight=False)


@contextmanager
def simulated(size: Size) -> Iterator[Path]:
    """Make the run in a data directory of its own, and in the end stop its stack and remove it."""
    with tempfile.TemporaryDirectory(prefix="botify-notebooks-") as place:
        home = Path(place)
        try:
            simulate(home, size)
            yield home
        finally:
            _botify(["down"], _environment(home, PERIODS[-1]), check=False)


def run_notebook(path: Path, home: Path) -> NotebookNode:
    """Execute a notebook against the run in a data directory, and return it with its outputs.

    Raises
    ------
    CellExecutionError
        A cell raised.
    AnalyticsError
        An output has an error or a warning.
    """
    executed = execute(path, _environment(home, PERIODS[-1]))
    if found := list(complaints(executed)):
        raise AnalyticsError(f"{path.name} has errors or warnings in its outputs:\n" + "\n".join(found))
    return executed


def _environment(home: Path, period: Period) -> dict[str, str]:
    return {"BOTIFY_HOME": str(home), "BOTIFY_EXPERIMENTS": str(period.experiments)}


def _botify(arguments: Sequence[str], environment: Mapping[str, str], *, check: bool = True) -> None:
    """Run a command of ours in a process of its own, as a person would type it."""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "services.cli", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )
    if done.returncode and check:
        raise AnalyticsError(f"`botify {' '.join(arguments)}` ended with status {done.returncode}:\n{done.stderr}")


if __name__ == "__main__":
    typer.run(main)
