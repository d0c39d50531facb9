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
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from analytics.errors import AnalyticsError
from analytics.notebooks.execute import complaints, execute, text_of
from analytics.notebooks.story import BEFORE, FULL, HERE, MODEL, PERIODS, SMALL, WORLD, Period, Size

COMMAND_TIMEOUT_S = 900
console = Console()


def notebooks() -> list[Path]:
    """Return the notebooks, in the order of reading."""
    return sorted(HERE.glob("[0-9][0-9]_*.ipynb"))


def simulate(home: Path, size: Size) -> None:
    """Make the run that the notebooks tell of, and leave the stack running.

    Lists are built from what was heard before the experiment, and serve in it.

    The recommender reads its experiments when it starts, so the stack is started once for each period.

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
        options = {"world": world, "users": size.users, "days": days, "model": MODEL}
        of_period = {"seed": period.seed, "start": period.start, "run-id": period.run_id}
        _botify(["sim", "run", *(f"--{name}={value}" for name, value in {**options, **of_period}.items())], environment)
        if period is BEFORE:
            _botify(["lists", "build", "--from-topic"], environment)


def main(
    *,
    small: Annotated[
        bool, typer.Option("--small", help="A little data, for CI; the notebooks stay as they are.")
    ] = False,
    home: Annotated[
        Path | None,
        typer.Option(help="Use the run in this data directory, or make it there; its stack is left running."),
    ] = None,
    only: Annotated[str, typer.Option(help="First characters of a notebook's name.")] = "",
) -> None:
    """Run the notebooks, and write them with their outputs if nothing complains."""
    with ExitStack() as ending:
        if home is None:
            place = Path(ending.enter_context(tempfile.TemporaryDirectory(prefix="botify-notebooks-")))
            ending.callback(_botify, ["down"], _environment(place, PERIODS[-1]), check=False)
        else:
            place = home.absolute()
        if not (place / "worlds").exists():
            simulate(place, SMALL if small else FULL)
        for path in notebooks():
            if path.name.startswith(only):
                _run_one(path, place, write=not small)


def _run_one(path: Path, home: Path, *, write: bool) -> None:
    began_s = time.monotonic()
    executed = execute(path, _environment(home, PERIODS[-1]))
    if found := list(complaints(executed)):
        raise AnalyticsError(f"{path.name} has errors or warnings in its outputs:\n" + "\n".join(found))
    text = text_of(executed)
    if write:
        path.write_text(text, encoding="utf-8")
    console.print(f"{path.name}: {time.monotonic() - began_s:.0f} s, {len(text) / 1024:,.0f} KB", highlight=False)


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
