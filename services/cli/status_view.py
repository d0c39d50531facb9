"""A reading of the stack as tables."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from services.stack.processes import ProcessStatus
from services.stack.status import StackStatus, TopicStatus

_STATE_STYLES = {"running": "green", "paused": "yellow", "ended": "bold red", "given up": "bold red"}


def status_view(status: StackStatus) -> RenderableType:
    """Return processes, topics, lag, addresses and problems, one below the other."""
    parts: list[RenderableType] = []
    if status.processes:
        parts.append(_processes(status.processes))
    if status.topics.records:
        parts.append(_topics(status.topics))
    if status.topics.lags:
        parts.append(_lags(status.topics))
    parts.append(_places(status))
    parts += [Text(problem, style="red") for problem in status.problems]
    return Group(*parts)


def _processes(processes: Sequence[ProcessStatus]) -> Table:
    table = Table(title="Processes", title_justify="left")
    table.add_column("name")
    for name in ("pid", "uptime", "CPU %", "RSS MB"):
        table.add_column(name, justify="right")
    table.add_column("state")
    for process in processes:
        table.add_row(
            process.name,
            str(process.pid),
            duration(process.uptime_s),
            f"{process.cpu_percent:.0f}",
            f"{process.rss_mb:.0f}",
            Text(process.state, style=_STATE_STYLES[process.state]),
        )
    return table


def _topics(topics: TopicStatus) -> Table:
    table = Table(title="Topics", title_justify="left")
    table.add_column("topic")
    table.add_column("records", justify="right")
    table.add_column("records/s", justify="right")
    for topic, records in topics.records.items():
        table.add_row(topic, f"{records:,}", f"{topics.records_per_s[topic]:,.0f}")
    return table


def _lags(topics: TopicStatus) -> Table:
    table = Table(title="Consumer lag", title_justify="left")
    table.add_column("group")
    table.add_column("topic")
    table.add_column("lag", justify="right")
    table.add_column("by partition")
    for lag in topics.lags:
        table.add_row(lag.group, lag.topic, f"{sum(lag.lags):,}", " ".join(map(str, lag.lags)))
    return table


def _places(status: StackStatus) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_row("Kafka", status.kafka_bootstrap_servers)
    grid.add_row("Redis", status.redis_url)
    grid.add_row("data, logs", Text(str(status.home), overflow="fold"))
    return grid


def duration(seconds: float) -> str:
    """Return a time span for people.

    Examples
    --------
    >>> duration(75), duration(3 * 3600 + 60)
    ('1m 15s', '3h 1m')
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h {minutes}m"
    return f"{minutes}m {rest}s" if minutes else f"{rest}s"
