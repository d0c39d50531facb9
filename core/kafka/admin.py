"""Requests to brokers: whether they answer, topics, offsets of topics and groups, and positions in words."""

import re
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from confluent_kafka import Consumer, IsolationLevel, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, ClusterMetadata, OffsetSpec

from botify.core.errors import NoBrokerError, PositionError, TopicError
from botify.core.kafka.config import common_config, consumer_config, is_retriable
from botify.core.kafka.layout import live_layout
from botify.core.settings import Settings
from botify.core.times import iso_ms

T = TypeVar("T")

TIMEOUT_S = 30.0
METADATA_TIMEOUT_S = 10.0
TOPIC_ID_TIMEOUT_S = 10.0
GRACE_S = 1.0  # added where the client has a timeout of its own, whose error says more
ASK_TIMEOUT_S = 5.0  # of one try: a client that waits for a broker to come back asks it with what was true before
RETRY_PAUSE_S = 0.05
CONNECT_TIMEOUT_S = 2.0
_WAY_OUT = "start one with `botify up` or set KAFKA_BOOTSTRAP_SERVERS"


def check_kafka(settings: Settings) -> None:
    """Raise `NoBrokerError` unless one of Kafka's addresses accepts connections."""
    addresses = [address.strip().rpartition(":") for address in settings.kafka_bootstrap_servers.split(",")]
    if not any(accepts_connections(host, port) for host, _, port in addresses):
        raise NoBrokerError(f"no Kafka listens at {settings.kafka_bootstrap_servers}: {_WAY_OUT}")


def require_kafka(settings: Settings) -> Settings:
    """Return the settings with the live layout; raises `NoBrokerError`, as a command's user waits for the error."""
    check_kafka(settings)
    admin = AdminClient(common_config(settings))
    try:
        return live_layout(settings, admin)
    except NoBrokerError as error:
        admin.poll(0)  # delivers a refusal to `error_cb`
        raise NoBrokerError(
            f"Kafka at {settings.kafka_bootstrap_servers} does not answer ({error}): {_WAY_OUT}"
        ) from error


def accepts_connections(host: str, port: str) -> bool:
    """Say whether a server listens at an address."""
    try:
        socket.create_connection((host, int(port)), CONNECT_TIMEOUT_S).close()
    except (OSError, ValueError):
        return False
    return True


def retry_brokers(ask: Callable[[], T], timeout_s: float = TIMEOUT_S) -> T:
    """Call `ask` until brokers answer it: one may be restarting, or leaders are being elected.

    Raises what the last call raised, if it is not retriable or the timeout has passed.
    """
    give_up = time.monotonic() + timeout_s
    while True:
        try:
            return ask()
        except (KafkaException, NoBrokerError) as error:
            passing = isinstance(error, NoBrokerError) or is_retriable(error.args[0])
            if not passing or time.monotonic() > give_up:
                raise
            time.sleep(RETRY_PAUSE_S)


def partition_counts(admin: AdminClient) -> dict[str, int]:
    """Return each topic's number of partitions; raises `NoBrokerError` if none answers for `METADATA_TIMEOUT_S`."""
    return {name: len(topic.partitions) for name, topic in _metadata(admin).topics.items()}


def wait_until_listed(settings: Settings, partitions: Mapping[str, int]) -> dict[str, int]:
    """Wait until every broker lists topics with so many partitions or more, and return all counts.

    A broker lists what was made a moment after another one does. A program that starts next asks any of them, and would
    be told that there is no such topic. Raises `TopicError` after `TIMEOUT_S`, and as `partition_counts`.
    """
    config, give_up = common_config(settings), time.monotonic() + TIMEOUT_S
    counts: dict[str, int] = {}
    for broker in _metadata(AdminClient(config)).brokers.values():
        address = f"{broker.host}:{broker.port}"
        admin = AdminClient({**config, "bootstrap.servers": address})
        counts = partition_counts(admin)
        while late := [topic for topic, count in partitions.items() if counts.get(topic, 0) < count]:
            if time.monotonic() > give_up:
                raise TopicError(f"{late[0]} was made, but not listed by the broker {address} for {TIMEOUT_S:.0f} s")
            time.sleep(RETRY_PAUSE_S)
            counts = partition_counts(admin)
    return counts


def _metadata(admin: AdminClient) -> ClusterMetadata:
    give_up = time.monotonic() + METADATA_TIMEOUT_S
    try:
        # a broker that stops while it answers fails the request at once, and may be back in a moment
        return retry_brokers(
            lambda: admin.list_topics(timeout=max(give_up - time.monotonic(), RETRY_PAUSE_S)), METADATA_TIMEOUT_S
        )
    except KafkaException as error:
        admin.poll(0)  # delivers a refusal to `error_cb`
        raise NoBrokerError(f"no Kafka answers ({error.args[0].str()}); {_WAY_OUT}") from error


def end_offsets(settings: Settings, topic: str) -> dict[int, int]:
    """Return the end of each partition: the next offset to be written, or where an open transaction begins.

    Raises `TopicError` if the topic does not exist or no broker answers.
    """
    return _offsets(settings, topic, OffsetSpec.latest())


def start_offsets(settings: Settings, topic: str) -> dict[int, int]:
    """Return the first offset that the broker still has, by partition; raises as `end_offsets`."""
    return _offsets(settings, topic, OffsetSpec.earliest())


def offsets_at(settings: Settings, topic: str, timestamp_ms: int) -> dict[int, int]:
    """Return the first offset whose record was produced at that time or later, by partition; the end without one."""
    found = _offsets(settings, topic, OffsetSpec.for_timestamp(timestamp_ms))
    end = end_offsets(settings, topic)
    return {partition: end[partition] if offset < 0 else offset for partition, offset in found.items()}


def _offsets(settings: Settings, topic: str, spec: OffsetSpec) -> dict[int, int]:
    admin = AdminClient(common_config(settings))
    count = partition_counts(admin).get(topic)
    if count is None:
        raise TopicError(f"topic {topic} does not exist; `botify topics create` creates it")

    try:
        found = list_offsets(common_config(settings), [(topic, partition) for partition in range(count)], spec, admin)
    except KafkaException as error:
        raise TopicError(f"{topic}: the brokers do not say where it ends: {error.args[0].str()}") from error
    return {partition: offset for (_, partition), offset in found.items()}


def list_offsets(
    config: Mapping[str, Any],
    partitions: Iterable[tuple[str, int]],
    spec: OffsetSpec,
    known: AdminClient,
    isolation: IsolationLevel = IsolationLevel.READ_COMMITTED,
) -> dict[tuple[str, int], int]:
    """Return an offset of each (topic, partition), also while leaders are elected; raises `KafkaException`.

    `known` is asked first, a client that has read metadata: of those without, one in a hundred waits 3 s for leaders
    (librdkafka 2.16). By default a partition ends where an open transaction begins; nobody reads what is after that.
    """
    wanted = {TopicPartition(topic, partition): spec for topic, partition in partitions}
    at_hand = [known]

    def ask() -> dict[tuple[str, int], int]:
        # then a new client each time: one that asked before leaders were elected never finds them
        admin = at_hand.pop() if at_hand else AdminClient(dict(config))  # has a name: answers die with their client
        asked = admin.list_offsets(wanted, isolation_level=isolation, request_timeout=ASK_TIMEOUT_S)
        return {(at.topic, at.partition): future.result(TIMEOUT_S).offset for at, future in asked.items()}

    return retry_brokers(ask) if wanted else {}


def committed_offsets(
    settings: Settings, group: str, partitions: Iterable[tuple[str, int]], timeout_s: float
) -> dict[tuple[str, int], int]:
    """Return the committed offset of each (topic, partition) that has one, without joining the group.

    `AdminClient.list_consumer_group_offsets` asks the same, and ends the process with a segmentation fault where the
    group's coordinator is not ready (librdkafka 2.16: `rd_kafka_handle_OffsetFetch` hands the error to a group that an
    admin client does not have). A consumer that never subscribes has one. Raises `KafkaException`.
    """
    consumer = Consumer(consumer_config(settings, group))
    try:
        asked = [TopicPartition(topic, partition) for topic, partition in partitions]
        found = consumer.committed(asked, timeout=timeout_s) if asked else []
    finally:
        consumer.close()
    return {(at.topic, at.partition): at.offset for at in found if at.error is None and at.offset >= 0}


def read_topic_id(admin: AdminClient, topic: str) -> str:
    """Return the topic's id, unique among topics of its name; raises `KafkaException` or `NoBrokerError`."""
    (future,) = admin.describe_topics(TopicCollection([topic]), request_timeout=TOPIC_ID_TIMEOUT_S).values()
    try:
        return str(future.result(TOPIC_ID_TIMEOUT_S + GRACE_S).topic_id)
    except TimeoutError as error:
        raise NoBrokerError(f"{topic}: no broker answers for {TOPIC_ID_TIMEOUT_S:.0f} s") from error


_DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?")
_FORMS = "earliest, latest, offset:N, ts:2026-01-31T12:00:00Z or duration:PT1H"


@dataclass(frozen=True, slots=True)
class TopicPosition:
    """A position in every partition: `earliest`, `latest`, an `offset`, or a `timestamp` in ms since the epoch."""

    kind: str
    value: int = 0


EARLIEST, LATEST = TopicPosition("earliest"), TopicPosition("latest")


def parse_position(text: str, now_ms: int) -> TopicPosition:
    """Parse a position; a duration counts back from `now_ms`. Raises `PositionError` for other forms."""
    kind, _, value = text.partition(":")
    try:
        if kind in ("earliest", "latest") and not value:
            return TopicPosition(kind)
        if kind == "offset" and (offset := int(value)) >= 0:
            return TopicPosition("offset", offset)
        if kind == "ts":
            return TopicPosition("timestamp", iso_ms(value))
        if kind == "duration":
            return TopicPosition("timestamp", now_ms - _duration_ms(value))
    except ValueError as error:
        raise PositionError(f"{text!r} is not a position in a topic ({error}); say {_FORMS}") from error
    raise PositionError(f"{text!r} is not a position in a topic; say {_FORMS}")


@dataclass(frozen=True, slots=True)
class TopicState:
    """What the brokers say about a topic: its first and end offsets, and those that the group has committed."""

    topic: str
    topic_id: str
    start: Mapping[int, int]
    end: Mapping[int, int]
    committed: Mapping[int, int] = field(default_factory=dict)

    def offsets_of(self, position: TopicPosition, settings: Settings) -> Mapping[int, int]:
        """Return the offset of a position in each partition; outside of a partition, that is its nearest end."""
        if position.kind == "earliest":
            return self.start
        if position.kind == "latest":
            return self.end
        if position.kind == "timestamp":
            return offsets_at(settings, self.topic, position.value)
        return {p: min(max(position.value, self.start[p]), self.end[p]) for p in self.end}


def describe_topic(settings: Settings, topic: str, group: str | None = None) -> TopicState:
    """Ask about a topic, and the group's committed offsets; raises `TopicError` without an answer for `TIMEOUT_S`."""
    admin = AdminClient(common_config(settings))

    def ask() -> TopicState:
        topic_id = read_topic_id(admin, topic)
        start, end = start_offsets(settings, topic), end_offsets(settings, topic)
        asked = [] if group is None else [(topic, partition) for partition in sorted(start)]
        committed = committed_offsets(settings, group or "", asked, TIMEOUT_S) if asked else {}
        return TopicState(topic, topic_id, start, end, {partition: at for (_, partition), at in committed.items()})

    try:
        return retry_brokers(ask)
    except KafkaException as error:
        raise TopicError(f"{topic}: the brokers do not describe it: {error.args[0].str()}") from error


def _duration_ms(text: str) -> int:
    found = _DURATION.fullmatch(text)
    if found is None or not any(found.groups()):
        raise ValueError(f"{text!r} is not an ISO 8601 duration of days, hours, minutes and seconds")
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return (((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1000
