"""How far each consumer group is behind, and how fast topics grow, from Kafka's own offsets.

Committed offsets are for this display; where a worker goes on is kept in Redis, with the state it produced.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from core.errors import BotifyError, TopicError
from core.kafka.admin import committed_offsets, partition_counts, require_kafka
from core.kafka.config import common_config
from core.settings import Settings
from schemas.topics import Topics
from services.stack.record import StackEnd, StackRecord
from services.stack.supervisor import ProcessReader, ProcessStatus
from streams.read import StateReader
from streams.store.connect import connect, require_redis
from streams.store.keys import learner_prefix

TIMEOUT_S = 10.0
SILENT = {"log_level": 0}
"""librdkafka's own log lines would run into the table."""

Offsets = Mapping[tuple[str, int], int]
"""(topic, partition) -> offset."""


@dataclass(frozen=True, slots=True)
class GroupLag:
    """One consumer group on one topic.

    Attributes
    ----------
    topic, group : str
        Names.
    lags : list of int
        Records that are not committed yet, by partition.
    """

    topic: str
    group: str
    lags: list[int]


class OffsetReader:
    """Reads end offsets and committed offsets of our topics.

    Raises
    ------
    NoBrokerError
        No broker answers.
    """

    def __init__(self, settings: Settings) -> None:
        require_kafka(settings)
        self._settings = settings
        self._admin = AdminClient({**common_config(settings), **SILENT})
        self._topics = {definition.name for definition in Topics.of(settings).all()}

    def ends(self) -> dict[tuple[str, int], int]:
        """Return the next offset of every partition.

        Raises
        ------
        TopicError
            Kafka does not answer.
        """
        counts = partition_counts(self._admin)
        wanted = {
            TopicPartition(topic, partition): OffsetSpec.latest()
            for topic in sorted(self._topics & counts.keys())
            for partition in range(counts[topic])
        }
        if not wanted:
            return {}
        try:
            found = self._admin.list_offsets(wanted, request_timeout=TIMEOUT_S)
            return {(at.topic, at.partition): future.result(TIMEOUT_S).offset for at, future in found.items()}
        except (KafkaException, TimeoutError) as error:
            raise TopicError(f"Kafka does not say where its topics end ({error!r})") from error

    def committed(self) -> dict[str, dict[tuple[str, int], int]]:
        """Return the committed offsets of every group, by group.

        Raises
        ------
        TopicError
            Kafka does not answer.
        """
        try:
            groups = [group.group_id for group in self._admin.list_consumer_groups().result(TIMEOUT_S).valid]
            partitions = self.ends().keys()
            return {group: committed_offsets(self._settings, group, partitions, TIMEOUT_S) for group in groups}
        except (KafkaException, TimeoutError) as error:
            raise TopicError(f"Kafka does not say what its groups committed ({error!r})") from error


def lags(ends: Offsets, committed: Mapping[str, Offsets]) -> list[GroupLag]:
    """Compare what groups have committed with where the topics end.

    A partition of which a group has committed nothing counts whole.

    Examples
    --------
    >>> lags({("listens", 0): 10, ("listens", 1): 5}, {"workers": {("listens", 0): 8}})
    [GroupLag(topic='listens', group='workers', lags=[2, 5])]
    """
    return [
        GroupLag(
            topic,
            group,
            [end - offsets.get(at, 0) for at, end in sorted(ends.items()) if at[0] == topic],
        )
        for group, offsets in sorted(committed.items())
        for topic in sorted({at[0] for at in offsets})
    ]


def rates(before: Offsets, after: Offsets, seconds: float) -> dict[str, float]:
    """Return how many records a second each topic got between two readings.

    Examples
    --------
    >>> rates({("listens", 0): 10, ("listens", 1): 5}, {("listens", 0): 30, ("listens", 1): 5}, seconds=2.0)
    {'listens': 10.0}
    """
    started = totals(before)
    return {topic: (end - started.get(topic, end)) / seconds for topic, end in totals(after).items()}


def totals(ends: Offsets) -> dict[str, int]:
    """Return the sum of each topic's offsets.

    Examples
    --------
    >>> totals({("listens", 0): 10, ("listens", 1): 5})
    {'listens': 15}
    """
    total: Counter[str] = Counter()
    for (topic, _), end in ends.items():
        total[topic] += end
    return dict(total)


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
