"""What the commands share: open the sources, run to the end, show how far it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.text import Text

from schemas.garbage import collect_seldom
from schemas.reachable import require_kafka
from schemas.settings import Settings
from streams.offline.sources import Sources, open_sources
from streams.store.connect import require_redis

T = TypeVar("T")


def run_with_sources(settings: Settings, work: Callable[[Sources], Awaitable[T]]) -> T:
    """Return what the work comes to.

    Raises
    ------
    NoBrokerError, RedisUnreachableError
        A server does not answer.
    """
    collect_seldom()
    require_kafka(require_redis(settings))

    async def go() -> T:
        async with open_sources(settings) as sources:
            return await work(sources)

    return asyncio.run(go())


class _Rate(ProgressColumn):
    """Records a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "")


@contextmanager
def record_bar(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show a bar on standard error; yield a function that is told how many records more are done."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), _Rate(), TimeElapsedColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda records: bar.advance(task, records)
