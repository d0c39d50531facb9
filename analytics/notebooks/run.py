"""Simulate the run that the notebooks analyse, on a new stack, and execute the notebooks.

    python -m botify.analytics.notebooks.run            # writes the outputs into the notebooks
    python -m botify.analytics.notebooks.run --small    # uses little data, takes a minute, writes nothing
    python -m botify.analytics.notebooks.run --prepare  # only simulates, on the stack here; then: jupyter lab
    BOTIFY_REAL_LOG="movielens /data/ml-100k.zip" python -m botify.analytics.notebooks.run --only 08

Notebook 08 imports what `BOTIFY_REAL_LOG` names, and needs no stack. Without it, it runs on a synthetic log and is not
written.

Without `--prepare` and `--home` no stack is touched: the run has a temporary home.
"""

from __future__ import annotations

import base64
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated

import nbformat
import typer
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image
from rich.console import Console

from botify.analytics import AnalyticsError
from botify.analytics.notebooks.story import (
    BEFORE,
    FULL,
    HERE,
    MODEL,
    PACED,
    PERIODS,
    PREFIX,
    REAL_LOG,
    REQUESTS_PER_S,
    SMALL,
    STANDALONE,
    WORLD,
    Period,
    Size,
    runs_of,
)
from botify.core.kafka.admin import require_kafka
from botify.core.settings import Settings

COMMAND_TIMEOUT_S = 900
console = Console()


def notebooks() -> list[Path]:
    """Return the notebooks in order."""
    return sorted(HERE.glob("[0-9][0-9]_*.ipynb"))


def simulate(home: Path, size: Size) -> None:
    """Simulate the run, or those parts that the topics lack, and leave the stack running.

    The recommender reads its experiments when it starts, so the stack is started once for each period. Lists are built
    from the listens before the experiment. Raises `AnalyticsError` if a command failed.
    """
    for period, days in zip(PERIODS, size.days, strict=True):
        environment = _environment(home, period)
        _botify(["down"], environment)
        _botify(["up", "--gateways=0", f"--prefix={PREFIX}"], environment)
        world = _botify(["world", "make", f"--config={WORLD}"], environment).split()[1].rstrip(":")
        there = runs_of(require_kafka(Settings.from_env({**os.environ, **environment})))
        if period.run_id in there:
            continue
        _listen(home, period, world=world, users=size.users, days=days)
        if period is BEFORE:
            _botify(["models", "publish", "--from-topic"], environment)
    if PACED.run_id not in there:
        _listen(home, PACED, world=world, users=size.users, rate=REQUESTS_PER_S, seconds=size.paced_s)


def _listen(home: Path, period: Period, **options: object) -> None:
    of_period = {"model": MODEL, "seed": period.seed, "start": period.start, "run_id": period.run_id}
    arguments = [
        f"--set={name}={value}" if name in ("users", "seconds", "run_id") else f"--{name}={value}"
        for name, value in {**options, **of_period}.items()
    ]
    _botify(["sim", *arguments], _environment(home, period))


def main(
    *,
    small: Annotated[bool, typer.Option("--small", help="Use little data and write no notebooks, as CI does.")] = False,
    home: Annotated[
        Path | None,
        typer.Option(help="Data directory of the run; it is created if missing, and its stack is left running."),
    ] = None,
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Only simulate the run; without --home where `botify up` would start.")
    ] = False,
    only: Annotated[str, typer.Option(help="Run only notebooks whose names begin with this.")] = "",
) -> None:
    """Execute the notebooks, and write them with their outputs unless there are errors or warnings."""
    size = SMALL if small else FULL
    chosen = [path for path in notebooks() if path.name.startswith(only)] if not prepare else []
    home = home or (Settings.from_env().home if prepare else None)
    with temporary_home() if home is None else nullcontext(home.absolute()) as place:
        if prepare or any(path.name[:2] not in STANDALONE for path in chosen):
            simulate(place, size)
        for path in chosen:
            began_s = time.monotonic()
            text = text_of(run_notebook(path, place))
            if not small and (REAL_LOG in os.environ or path.name[:2] not in STANDALONE):
                path.write_text(text, encoding="utf-8")
            took_s = time.monotonic() - began_s
            console.print(f"{path.name}: {took_s:.0f} s, {len(text) / 1024:,.0f} KB", highlight=False)


@contextmanager
def temporary_home() -> Iterator[Path]:
    """Make a data directory; stop its stack and remove it at the end."""
    with tempfile.TemporaryDirectory(prefix="botify-notebooks-") as place:
        home = Path(place)
        try:
            yield home
        finally:
            _botify(["down"], _environment(home, PERIODS[-1]), check=False)


@contextmanager
def simulated(size: Size) -> Iterator[Path]:
    """Simulate the run in a temporary data directory."""
    with temporary_home() as home:
        simulate(home, size)
        yield home


def run_notebook(path: Path, home: Path) -> NotebookNode:
    """Execute a notebook against the run in a data directory, and return it with its outputs.

    Raises `CellExecutionError` if a cell raised, and `AnalyticsError` if an output has an error or a warning.
    """
    executed = execute(path, _environment(home, PERIODS[-1]))
    if found := list(complaints(executed)):
        raise AnalyticsError(f"{path.name} has errors or warnings in its outputs:\n" + "\n".join(found))
    return executed


def _environment(home: Path, period: Period) -> dict[str, str]:
    return {"BOTIFY_HOME": str(home), "BOTIFY_EXPERIMENTS": str(period.experiments)}


def _botify(arguments: Sequence[str], environment: Mapping[str, str], *, check: bool = True) -> str:
    """Run a `botify` command in a process, and return what it prints."""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "botify.services.cli", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )
    if done.returncode and check:
        raise AnalyticsError(f"`botify {' '.join(arguments)}` ended with status {done.returncode}:\n{done.stderr}")
    return done.stdout


CELL_TIMEOUT_S = 900
_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
"""Without the version of Python, so that two runs of a notebook differ in outputs only."""


def execute(path: Path, environment: Mapping[str, str]) -> NotebookNode:
    """Execute a notebook, and return it with its outputs; raises `CellExecutionError` if a cell raised."""
    notebook: NotebookNode = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT_S,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(path.parent)}},
        extra_arguments=["--IPKernelApp.log_level=40"],  # errors only: it warns of listening on 127.0.0.1
    )
    client.execute(env={**os.environ, **environment})
    notebook.metadata = _METADATA
    for output in _outputs(notebook):
        if "image/png" in output.get("data", {}):
            output.data["image/png"] = shrink_png(output.data["image/png"])
    return notebook


def complaints(notebook: NotebookNode) -> Iterator[str]:
    """Yield every error and everything on stderr, such as warnings."""
    for output in _outputs(notebook):
        if output.output_type == "error":
            yield f"{output.ename}: {output.evalue}"
        elif output.output_type == "stream" and output.name == "stderr":
            yield output.text


def shrink_png(picture: str) -> str:
    """Reduce a picture, PNG in base64, to 256 colours, a third of the bytes."""
    shrunk = io.BytesIO()
    with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
        image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(shrunk, format="png", optimize=True)
    return base64.b64encode(shrunk.getvalue()).decode()


def _outputs(notebook: NotebookNode) -> Iterator[NotebookNode]:
    for cell in notebook.cells:
        yield from cell.get("outputs", [])


def text_of(notebook: NotebookNode) -> str:
    """Return the content of a notebook's file."""
    text: str = nbformat.writes(notebook)  # type: ignore[no-untyped-call]
    return text + "\n"


if __name__ == "__main__":
    typer.run(main)
