"""What runs, how far it is, and what is wrong."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from schemas.errors import BotifyError
from schemas.settings import Settings
from schemas.topics import Topics
from services.stack.lag import GroupLag, OffsetReader, Offsets, lags, rates, totals
from services.stack.processes import ProcessReader, ProcessStatus
from services.stack.record import StackEnd, StackRecord
from streams.read import StateReader
from streams.store.connect import connect, require_redis
from streams.store.keys import learner_prefix

STATE = "(state in Redis)"
"""Stands where the name of a consumer group stands."""


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
    problems = _of_the_stack(settings.home, record)
    process_reader = ProcessReader(record.processes if record else {})
    topics = TopicStatus()
    checkpoints: Offsets = {}
    with _noted_in(problems):
        checkpoints = _checkpoints(settings)
    with _noted_in(problems):
        topics = _read_topics(settings, checkpoints, interval_s)
    given_up = record.given_up if record else {}
    processes = [
        replace(process, state="given up") if process.name in given_up else process for process in process_reader.read()
    ]
    problems += [
        _given_up(process.name, given_up[process.name], settings.home)
        if process.name in given_up
        else f"{process.name} (pid {process.pid}) is {process.state}; its log is in {settings.home / 'logs'}"
        for process in processes
        if process.state != "running"
    ]
    return StackStatus(
        home=settings.home,
        kafka_bootstrap_servers=settings.kafka_bootstrap_servers,
        redis_url=settings.redis_address,
        processes=processes,
        topics=topics,
        problems=problems,
    )


def _of_the_stack(home: Path, record: StackRecord | None) -> list[str]:
    """Say why no stack runs, where none does."""
    if record is not None:
        if record.owner.is_alive():
            return []
        return [
            f"the process that ran the stack (pid {record.owner.pid}) was killed, so everything was stopped; the data "
            "stays. Run `botify up`"
        ]
    if (end := StackEnd.read(home)) is not None:
        return [f"the stack in {home} ended at {end.at}, because {end.why}"]
    return [f"nothing was started in {home}: run `botify up`"]


def _given_up(name: str, how: str, home: Path) -> str:
    return (
        f"{name} stays stopped, because it ended again and again; the last time {how}\n"
        f"Its log is {home / 'logs' / f'{name}.log'}. Repair the cause, then run `botify down` and `botify up`."
    )


@contextmanager
def _noted_in(problems: list[str]) -> Iterator[None]:
    """Go on after an error that was foreseen: a status is wanted most when something is wrong."""
    try:
        yield
    except BotifyError as error:
        problems.append(str(error))


def _checkpoints(settings: Settings) -> Offsets:
    """Return where workers and learners go on: it is kept in Redis, with the state; what they commit follows it."""
    require_redis(settings)
    topics, client = Topics.of(settings), connect(settings)
    learning = settings.with_(topic_prefix=learner_prefix(settings.topic_prefix), partitions=topics.training.partitions)
    try:
        return {
            (topic.name, partition): offset
            for topic, keys in ((topics.listens, settings), (topics.training, learning))
            for partition, offset in StateReader(client, keys).checkpoints().items()
        }
    finally:
        client.close()


def _read_topics(settings: Settings, checkpoints: Offsets, interval_s: float) -> TopicStatus:
    reader = OffsetReader(settings)
    before, started_s = reader.ends(), time.monotonic()
    time.sleep(interval_s)
    after, elapsed_s = reader.ends(), time.monotonic() - started_s
    return TopicStatus(
        lags=lags(after, {**reader.committed(), STATE: checkpoints}),
        records=totals(after),
        records_per_s=rates(before, after, elapsed_s),
    )
