"""The commands of this package, and how they print."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

console = Console()


def say(message: str, to: Console = console) -> None:
    """Print a line of text as it is."""
    to.print(message, highlight=False, markup=False, soft_wrap=True)


def print_json(value: object) -> None:
    """Print an object for programs."""
    sys.stdout.write(json.dumps(value, indent=2, default=repr) + "\n")


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "")


@contextmanager
def record_bar(what: str, total: int | None = None) -> Iterator[Callable[..., None]]:
    """Show a bar of records and their rate on standard error; yield a function that advances it.

    The function takes how many records are done since its last call and, optionally, how many there are in all.
    """
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), _Rate(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda records, total=None: bar.update(task, advance=records, total=total)
