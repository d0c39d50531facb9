"""The commands of this package, and the bar that they show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text


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
