"""The status of the stack: its processes, the lag of each consumer group, and the growth of each topic.

Committed offsets serve this display only; workers resume from the offsets in Redis, which are stored with the state.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, OffsetSpec

from botify.core.errors import BotifyError, TopicError
from botify.core.kafka.admin import committed_offsets, list_offsets, partition_counts, require_kafka
from botify.core.kafka.config import common_config
from botify.core.settings import Settings
from botify.schemas.topics import Topics
from botify.services.experiments import load_policy
from botify.services.stack.ports import HOST, remembered_ports
from botify.services.stack.record import StackEnd, StackRecord, shortage_of_stack
from botify.services.stack.server import tail
from botify.services.stack.supervisor import ProcessReader, ProcessStatus
from botify.streams.read import StateReader
from botify.streams.store.connect import connect, require_redis
from botify.streams.store.keys import learner_prefix

TIMEOUT_S = 10.0
OFTEN, RECENT_S = 3, 900.0
"""A process restarted that often, the last time that recently, is a problem, as in `alerts.yml`."""
LOG_LINES = 2_000
SILENT = {"log_level": 0}  # librdkafka's log lines would be mixed with the table

Offsets = Mapping[tuple[str, int], int]  # (topic, partition) -> offset


@dataclass(frozen=True, slots=True)
class GroupLag:
    """Records of a topic that a group has not committed yet, by partition."""

    topic: str
    group: str
    lags: list[int]


class OffsetReader:
    """Reads end offsets and committed offsets of Botify's topics; raises `NoBrokerError` without a broker."""

    def __init__(self, settings: Settings) -> None:
        settings = require_kafka(settings)
        self._settings = settings
        self._config = {**common_config(settings), **SILENT}
        self._admin = AdminClient(self._config)
        self._topics = {definition.name for definition in Topics.of(settings).all()}

    def ends(self) -> dict[tuple[str, int], int]:
        """Return the next offset of every partition; raises `TopicError` if Kafka does not answer."""
        counts = partition_counts(self._admin)
        partitions = [(topic, part) for topic in sorted(self._topics & counts.keys()) for part in range(counts[topic])]
        try:
            return list_offsets(self._config, partitions, OffsetSpec.latest(), self._admin)
        except (KafkaException, TimeoutError) as error:
            raise TopicError(f"Kafka did not return the end offsets of its topics ({error!r})") from error

    def committed(self, partitions: Collection[tuple[str, int]]) -> dict[str, dict[tuple[str, int], int]]:
        """Return the committed offsets of these partitions by group; raises `TopicError` if Kafka does not answer."""
        try:
            groups = [group.group_id for group in self._admin.list_consumer_groups().result(TIMEOUT_S).valid]
            return {group: committed_offsets(self._settings, group, partitions, TIMEOUT_S) for group in groups}
        except (KafkaException, TimeoutError) as error:
            raise TopicError(f"Kafka did not return the committed offsets of its groups ({error!r})") from error


def lags(ends: Offsets, committed: Mapping[str, Offsets]) -> list[GroupLag]:
    """Return the lag of each group on each topic; a partition without a commit counts whole."""
    return [
        GroupLag(topic, group, [end - offsets.get(at, 0) for at, end in sorted(ends.items()) if at[0] == topic])
        for group, offsets in sorted(committed.items())
        for topic in sorted({at[0] for at in offsets})
    ]


def rates(before: Offsets, after: Offsets, seconds: float) -> dict[str, float]:
    """Return the records per second that each topic received between two readings."""
    started = totals(before)
    return {topic: (end - started.get(topic, end)) / seconds for topic, end in totals(after).items()}


def totals(ends: Offsets) -> dict[str, int]:
    """Return the sum of each topic's offsets."""
    total: Counter[str] = Counter()
    for (topic, _), end in ends.items():
        total[topic] += end
    return dict(total)


STATE = "(state in Redis)"  # shown in place of a consumer group for the checkpoints of workers and learners


@dataclass(frozen=True, slots=True)
class TopicStatus:
    """Lag of each group on each topic; the sum of each topic's end offsets, and its growth."""

    lags: list[GroupLag] = field(default_factory=list)
    records: Mapping[str, int] = field(default_factory=dict)
    records_per_s: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StackStatus:
    """A reading of the whole stack; `problems` is empty if everything runs, `policy` says who recommends.

    `gateway` is the address of the REST API, empty if no gateway runs.
    """

    home: Path
    kafka_bootstrap_servers: str
    redis_url: str
    processes: list[ProcessStatus]
    topics: TopicStatus
    problems: list[str]
    policy: str = ""
    gateway: str = ""


def read_status(settings: Settings, interval_s: float = 1.0) -> StackStatus:
    """Read the status, with the offsets twice, an interval apart; raises `StackError` for a damaged `stack.json`."""
    home, record = settings.home, StackRecord.read(settings.home)
    problems = _of_the_stack(home, record) + shortage_of_stack(home)
    reader = ProcessReader(record) if record else None
    topics, policy, started = TopicStatus(), "", settings
    if record is not None:  # this terminal's variables may name another policy than that of the stack
        file, recommender = map(record.settings.get, ("experiments", "recommender"))
        started = settings.with_(experiments=None if file is None else Path(file), recommender=recommender)
    with _noted_in(problems):
        policy = str(load_policy(started))
    checkpoints: Offsets = {}
    with _noted_in(problems):
        checkpoints = _checkpoints(settings)
    with _noted_in(problems):
        topics = _read_topics(settings, checkpoints, interval_s)
    processes, given_up = reader.read() if reader else [], record.given_up if record else {}
    problems += filter(None, (problem_of(one, home / "logs", given_up.get(one.name)) for one in processes))
    addresses = (settings.kafka_bootstrap_servers, settings.redis_address)
    port = remembered_ports(home).get("gateway")
    gateway = f"http://{HOST}:{port}" if port and any(one.name.startswith("gateway") for one in processes) else ""
    return StackStatus(home, *addresses, processes, topics, problems, policy, gateway)


def _of_the_stack(home: Path, record: StackRecord | None) -> list[str]:
    if record is not None and record.owner.is_alive():
        return []
    if record is not None:
        return [
            f"the process that ran the stack (pid {record.owner.pid}) was killed, so everything was stopped; the data "
            "is kept. Run `botify up`"
        ]
    if (end := StackEnd.read(home)) is not None:
        return [f"the stack in {home} ended at {end.at}, because {end.why}"]
    return [f"nothing was started in {home}: run `botify up`"]


def problem_of(process: ProcessStatus, logs: Path, given_up: str | None = None) -> str | None:
    """Return what is wrong with a process that does not run, or was started again and again; None if nothing is."""
    log = logs / f"{process.name}.log"
    if given_up is not None:
        return (
            f"{process.name} stays stopped, because it ended too often; the last time {given_up}\n"
            f"Its log is {log}. Repair the cause, then run `botify down` and `botify up`."
        )
    if process.state != "running":
        return f"{process.name} (pid {process.pid}) is {process.state}; its log is {log}"
    if process.restarts < OFTEN or process.uptime_s > RECENT_S:
        return None
    said = [line.partition("CRITICAL")[2] for line in tail(log, LOG_LINES).splitlines() if "CRITICAL" in line]
    last = said[-1].strip(' ",') if said else "nothing"
    return (
        f"{process.name} was started again {process.restarts} times. Before the last time its log says ({log}, "
        f"{said.count(said[-1]) if said else 0} times): {last}"
    )


@contextmanager
def _noted_in(problems: list[str]) -> Iterator[None]:
    """Turn an expected error into a problem of the status, which is shown nevertheless."""
    try:
        yield
    except BotifyError as error:
        problems.append(str(error))


def _checkpoints(settings: Settings) -> Offsets:
    """Return the checkpoints of workers and learners in Redis; the offsets that they commit to Kafka follow them."""
    settings = require_kafka(require_redis(settings))
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
        lags=lags(after, {**reader.committed(after), STATE: checkpoints}),
        records=totals(after),
        records_per_s=rates(before, after, elapsed_s),
    )
