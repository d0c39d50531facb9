"""What runs, how far it is, and what is wrong."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from schemas.errors import BotifyError
from schemas.settings import Settings
from services.stack.lag import GroupLag, OffsetReader, lags, rates, totals
from services.stack.processes import ProcessReader, ProcessStatus
from services.stack.record import StackRecord


@dataclass(frozen=True, slots=True)
class TopicStatus:
    """What Kafka says about our topics.

    Attributes
    ----------
    lags : list of GroupLag
        Each group on each topic.
    records : Mapping[str, int]
        Topic -> sum of its end offsets.
    records_per_s : Mapping[str, float]
        Topic -> how fast that grows.
    """

    lags: list[GroupLag] = field(default_factory=list)
    records: Mapping[str, int] = field(default_factory=dict)
    records_per_s: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StackStatus:
    """A reading of the whole stack.

    Attributes
    ----------
    home : Path
        Where data and logs live.
    kafka_bootstrap_servers, redis_url : str
        Addresses, without a password.
    processes : list of ProcessStatus
        In the order of starting.
    topics : TopicStatus
        Offsets, lag and rates.
    problems : list of str
        What should be otherwise; empty where all is well.
    """

    home: Path
    kafka_bootstrap_servers: str
    redis_url: str
    processes: list[ProcessStatus]
    topics: TopicStatus
    problems: list[str]


def read_status(settings: Settings, interval_s: float = 1.0) -> StackStatus:
    """Read twice, an interval apart, because rates need two readings.

    Raises
    ------
    StackError
        The record in the data directory cannot be read.
    """
    record = StackRecord.read(settings.home)
    problems = [] if record else [f"nothing was started in {settings.home}: run `botify up`"]
    process_reader = ProcessReader(record.processes if record else {})
    topics = TopicStatus()
    try:
        topics = _read_topics(OffsetReader(settings), interval_s)
    except BotifyError as error:
        problems.append(str(error))
    processes = process_reader.read()
    problems += [
        f"{process.name} (pid {process.pid}) is {process.state}; its log is in {settings.home / 'logs'}"
        for process in processes
        if process.state != "running"
    ]
    return StackStatus(
        home=settings.home,
        kafka_bootstrap_servers=settings.kafka_bootstrap_servers,
        redis_url=without_password(settings.redis_url),
        processes=processes,
        topics=topics,
        problems=problems,
    )


def without_password(url: str) -> str:
    """Return a URL that may be shown.

    Examples
    --------
    >>> without_password("rediss://botify:secret@cache:6380/0")
    'rediss://***@cache:6380/0'
    """
    return re.sub(r"//[^/]*@", "//***@", url)


def _read_topics(reader: OffsetReader, interval_s: float) -> TopicStatus:
    before, started_s = reader.ends(), time.monotonic()
    time.sleep(interval_s)
    after, elapsed_s = reader.ends(), time.monotonic() - started_s
    return TopicStatus(
        lags=lags(after, reader.committed()),
        records=totals(after),
        records_per_s=rates(before, after, elapsed_s),
    )
