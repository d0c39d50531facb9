"""What the commands of all packages share: how they print, and options."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import progress as bars
from rich.console import Console
from rich.text import Text

from botify.core.errors import BotifyError

console = Console()
SILENT_S = 2.0  # what takes less has no line where there is no terminal

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Data = Annotated[Path | None, typer.Option(help="Folder that `botify data export` wrote; default: read the topic.")]
Run = Annotated[str | None, typer.Option(help="Only listens of this simulator run.")]
Alpha = Annotated[float, typer.Option(min=1e-6, max=0.5, help="Significance level: one minus the confidence level.")]


def say(message: str, to: Console = console) -> None:
    """Print a line of text as it is."""
    to.print(message, highlight=False, markup=False, soft_wrap=True)


class Bar:
    """Shows progress; what is printed meanwhile goes to its `console`."""

    def __init__(self, console: Console, change: Callable[..., None]) -> None:
        self.console, self._change = console, change

    def to(self, done: float, total: float | None = None, doing: str | None = None) -> None:
        """Show how much is done, of how much, and what is done now."""
        self._change(completed=done, total=total, description=doing)

    def advance(self, count: float, total: float | None = None) -> None:
        """Show that `count` more is done."""
        self._change(advance=count, total=total)


class _Done(bars.ProgressColumn):
    """The share that is done, or the count where there is no total, and the rate."""

    def render(self, task: bars.Task) -> Text:
        done = f"{task.percentage:.0f} %" if task.total else f"{task.completed:,.0f}" if task.completed else ""
        return Text(f"{done}, {task.speed:,.0f}/s" if (task.speed or 0) >= 1 else done)


@contextmanager
def progress(doing: str, total: float | None = None) -> Iterator[Bar]:
    """Show on standard error what is done and the time left; without a terminal, a line after two seconds."""
    console = Console(stderr=True)
    if console.is_terminal:
        columns = (bars.SpinnerColumn(), bars.TextColumn("{task.description}", markup=False), bars.BarColumn(), _Done())
        times = (bars.TimeElapsedColumn(), bars.TimeRemainingColumn())
        with bars.Progress(*columns, *times, console=console, transient=True, speed_estimate_period=300) as shown:
            yield Bar(console, partial(shown.update, shown.add_task(doing, total=total)))
        return
    begun_s, late = time.monotonic(), threading.Timer(SILENT_S, say, (f"{doing} ...", console))
    late.daemon = True
    late.start()
    try:
        yield Bar(console, lambda **_: None)
    finally:
        late.cancel()
        if (seconds := time.monotonic() - begun_s) > SILENT_S:
            say(f"{doing}: ended after {seconds:.0f} s", console)


def read_settings(
    texts: Sequence[str], readers: Mapping[str, Callable[[str], Any]], error: type[BotifyError]
) -> dict[str, Any]:
    """Read the `NAME=VALUE` of `--set`; raises `error` for an unknown name or a value that is none of it.

    Examples
    --------
    >>> read_settings(["users=500", "run_id=mine"], {"users": int, "run_id": str}, BotifyError)
    {'users': 500, 'run_id': 'mine'}
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name not in readers:
            raise error(f"--set {text!r} must be NAME=VALUE, with a name of {', '.join(readers)}")
        try:
            found[name] = readers[name](value)
        except ValueError:
            raise error(f"--set {text!r}: {value!r} is not a number") from None
    return found


def print_json(value: object) -> None:
    """Print an object for programs: data classes as objects, numbers that are not finite as null."""
    text = json.dumps(value, default=_plain)
    sys.stdout.write(json.dumps(json.loads(text, parse_constant=lambda _: None), indent=2, ensure_ascii=False) + "\n")


def _plain(value: Any) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return value.tolist() if hasattr(value, "tolist") else str(value)
