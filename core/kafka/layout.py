"""Layouts of the listens topic: which of its topics is open, and how one is closed and the next one opened.

A topic's number of partitions is fixed while state belongs to its partitions. `botify topics repartition` moves the
listens to a topic with more of them (docs/adr/0011-the-listens-move-to-more-partitions.md): `botify.listens` to
`botify.listens-16`. What the brokers refuse decides, not what programs believe: a closed topic takes no record, because
its `max.message.bytes` is less than any record has. So a producer that has not heard of the move cannot write to it.

| topic | `max.message.bytes` | `message.timestamp.type` |
| --- | --- | --- |
| being filled with copies, which keep their times | – | `CreateTime`, and not the first layout |
| open | – | `LogAppendTime` |
| closed, and the next one is about to be opened | 1 | |
| moved | 0 | |
"""

import re
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from enum import Enum
from typing import Any

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError as AioKafkaError
from aiokafka.errors import MessageSizeTooLargeError
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    ResourceType,
)

from botify.core.errors import NoBrokerError, TopicError
from botify.core.kafka.config import common_config
from botify.core.kafka.security import aiokafka_security
from botify.core.settings import Settings

ANSWER_TIMEOUT_S = 5.0
POLL_S = 0.02
TIMESTAMP_TYPE, MAX_BYTES = "message.timestamp.type", "max.message.bytes"
MAX_LEAD = "message.timestamp.after.max.ms"
"""By how much a listen's time may lead the broker's clock: what a topic of listens declares, once and for good.

Brokers hold the timestamps of `CreateTime` topics to it and ignore it in the others. Only who may alter topics can
declare; what a record says of itself counts for nothing.
"""
ANY_LEAD_MS = 2**63 - 1  # what a topic of simulated times declares
LISTENS_CONFIG: Mapping[str, str] = {
    "cleanup.policy": "delete",
    "retention.ms": "-1",
    # a listen's lead is measured against the broker's clock, not the producer's
    TIMESTAMP_TYPE: "LogAppendTime",
}
COPIED = "botify.copied"
"""Header of a listen that was copied from another layout: where it lies there, as `botify.listens/3/17`.

Any producer can write it, so it counts only in a copy: a record of a later layout to which the broker gave no time of
its own. Only a topic that is being filled is `CreateTime`, and `repartition` refuses it if others wrote to it
meanwhile. The open topic is `LogAppendTime`, which the broker notes in each batch, whatever the producer says.
"""


class TopicPhase(Enum):
    """What a topic of listens is used for; see the table above."""

    FILLED = "filled"
    OPEN = "open"
    CLOSED = "closed"
    MOVED = "moved"


def listens_topic(prefix: str, layout: str = "") -> str:
    """Return the name of the listens topic in a layout: `botify.listens`, `botify.listens-16`."""
    return f"{prefix}.listens-{layout}" if layout else f"{prefix}.listens"


def number_of(topic: str) -> int | None:
    """Return the number of partitions in the name of a listens topic, 0 for the first layout; None for other topics."""
    found = re.fullmatch(r".+\.listens(?:-([0-9]{1,9}))?", topic)
    return int(found[1] or 0) if found else None


def phase_of(layout: str, config: Mapping[str, str]) -> TopicPhase:
    """Return the phase that a topic's configuration says. Pure."""
    if (most := int(config[MAX_BYTES])) <= 1:
        return TopicPhase.CLOSED if most else TopicPhase.MOVED
    return TopicPhase.FILLED if layout and config[TIMESTAMP_TYPE] == "CreateTime" else TopicPhase.OPEN


def choose_layout(phases: Mapping[str, TopicPhase]) -> str:
    """Return the live layout: the open one, the newest of several; while the listens move, the closed one. Pure.

    A layout has more partitions than those before it. An earlier topic that was deleted and made again is open too.
    """
    for wanted in (TopicPhase.OPEN, TopicPhase.CLOSED):
        if found := [layout for layout, phase in phases.items() if phase is wanted]:
            return max(found, key=lambda layout: int(layout or 0))
    return ""


def read_phases(settings: Settings, admin: AdminClient | None = None) -> dict[str, tuple[TopicPhase, int]]:
    """Return the phase and the number of partitions of each layout that exists, the first layout first.

    Raises `NoBrokerError`, or `TopicError` if the brokers do not tell the topics' configuration.
    """
    admin = admin or AdminClient(common_config(settings))
    try:
        topics = admin.list_topics(timeout=ANSWER_TIMEOUT_S).topics
    except KafkaException as error:
        raise NoBrokerError(error.args[0].str()) from error
    first = listens_topic(settings.topic_prefix)
    is_listens = re.compile(rf"{re.escape(first)}(-[0-9]+)?").fullmatch
    counts = {name: len(topic.partitions) for name, topic in topics.items() if is_listens(name)}
    if counts.keys() <= {first}:  # nothing was ever moved, so programs need no right to read the configuration
        return {"": (TopicPhase.OPEN, counts[first])} if counts else {}
    found = {}
    for topic, entries in _configs(admin, counts).items():
        layout = topic[len(first) + 1 :]
        found[layout] = phase_of(layout, {name: entry.value for name, entry in entries.items()}), counts[topic]
    return found


def own_options(settings: Settings, topic: str, admin: AdminClient | None = None) -> dict[str, str]:
    """Return the options that were set for a topic itself; raises as `read_phases`."""
    entries = _configs(admin or AdminClient(common_config(settings)), [topic])[topic]
    of_topic = ConfigSource.DYNAMIC_TOPIC_CONFIG.value
    return {name: entry.value for name, entry in entries.items() if entry.source == of_topic}


def _configs(admin: AdminClient, topics: Iterable[str]) -> dict[str, dict[str, ConfigEntry]]:
    found = {}
    asked = admin.describe_configs([ConfigResource(ResourceType.TOPIC, name) for name in sorted(topics)])
    for resource, future in asked.items():
        try:
            found[resource.name] = future.result(ANSWER_TIMEOUT_S)
        except KafkaException as error:
            raise TopicError(f"{resource.name}: the brokers do not tell its configuration: {error}") from error
        except TimeoutError as error:
            raise NoBrokerError(f"{resource.name}: no Kafka tells its configuration") from error
    return found


def declared_lead_ms(settings: Settings, admin: AdminClient | None = None) -> int | None:
    """Return what the listens topic declares as `MAX_LEAD`, None if nothing; raises as `read_phases`."""
    declared = own_options(settings, listens_topic(settings.topic_prefix, settings.layout), admin).get(MAX_LEAD)
    return None if declared is None else int(declared)


def declare_simulated(settings: Settings) -> None:
    """Declare that the times of the listens are simulated, for good; raises as `read_phases` and `alter_topics`."""
    admin, give_up = AdminClient(common_config(settings)), time.monotonic() + ANSWER_TIMEOUT_S
    if declared_lead_ms(settings, admin) != ANY_LEAD_MS:
        layouts = [listens_topic(settings.topic_prefix, layout) for layout in read_phases(settings, admin)]
        alter_topics(settings, {topic: {MAX_LEAD: str(ANY_LEAD_MS)} for topic in layouts})  # also one being filled
    while declared_lead_ms(settings, admin) != ANY_LEAD_MS:
        if time.monotonic() > give_up:
            raise TopicError(f"brokers do not say after {ANSWER_TIMEOUT_S:.0f} s that the listens' times are simulated")
        time.sleep(POLL_S)


def live_layout(settings: Settings, admin: AdminClient | None = None) -> Settings:
    """Return the settings with the live layout and its number of partitions; raises as `read_phases`."""
    return _in_live_layout(settings, read_phases(settings, admin))


def _in_live_layout(settings: Settings, phases: Mapping[str, tuple[TopicPhase, int]]) -> Settings:
    layout = choose_layout({name: phase for name, (phase, _) in phases.items()})
    if layout == "" and phases.keys() <= {""}:
        return settings.with_(layout="") if settings.layout else settings
    return settings.with_(layout=layout, partitions=phases[layout][1])


def open_layout(settings: Settings) -> Settings | None:
    """Return the settings with the open layout; None while the listens move. Raises as `read_phases`."""
    phases = read_phases(settings)
    live = _in_live_layout(settings, phases)
    phase, _ = phases.get(live.layout, (TopicPhase.OPEN, 0))
    return live if phase is TopicPhase.OPEN else None


def is_closed(error: KafkaError) -> bool:
    """Say whether a broker refused a record because its topic is closed (or the record is too large)."""
    return bool(error.code() == KafkaError.MSG_SIZE_TOO_LARGE)


def alter_topics(settings: Settings, changes: Mapping[str, Mapping[str, str | None]]) -> None:
    """Set options of topics; None sets an option back to the brokers' default. Raises `TopicError`."""
    admin, resources = AdminClient(common_config(settings)), []
    for topic, options in changes.items():
        entries = []
        for name, value in options.items():
            change = AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET
            entries.append(ConfigEntry(name, value, incremental_operation=change))
        resources.append(ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries))
    for resource, future in admin.incremental_alter_configs(resources).items():
        try:
            future.result(ANSWER_TIMEOUT_S)
        except (KafkaException, TimeoutError) as error:
            raise TopicError(f"{resource.name}: its configuration cannot be changed: {error}") from error


# Proof that a topic is closed: the leader of each partition refuses records and says where its log ends. The controller
# answers before brokers apply an option (`alter_topics`). So each leader is asked itself, with a batch whose checksum
# is wrong. Brokers check the size of a batch before its checksum: a closed topic says that the batch is too large, an
# open one that it is corrupt. No topic takes it.
TIMEOUT_MS = 2_000
CRC_OFFSET = 17  # where a batch has its checksum
LOG_END, LATEST = -2, -1
"""Asked by this replica id (the debugging replica's), a leader says where its log ends. Consumers get the end of what
all in-sync replicas have; the rest may be acknowledged a moment later."""

ClosedEnds = Callable[[], Awaitable[dict[int, int]]]  # of the partitions whose leaders refuse records


def corrupt_batch() -> bytes:
    """Return a batch of one record that no topic takes."""
    builder = DefaultRecordBatchBuilder(2, 0, False, -1, -1, -1, 1_024)
    builder.append(0, 0, None, b"", [])
    batch = bytearray(builder.build())
    batch[CRC_OFFSET] ^= 0xFF
    return bytes(batch)


@asynccontextmanager
async def ask_leaders(settings: Settings, topic: str, partitions: int) -> AsyncIterator[ClosedEnds]:
    """Connect to the leaders of a topic while the block runs; raises `NoBrokerError`."""
    client = AIOKafkaClient(
        bootstrap_servers=settings.kafka_bootstrap_servers.split(","),
        client_id="botify-offline",
        request_timeout_ms=TIMEOUT_MS,
        **aiokafka_security(settings.kafka_security),
    )

    async def ask(leader: int, request: Any) -> list[tuple[Any, ...]]:
        ((_, answers),) = (await client.send(leader, request)).topics
        return list(answers)

    async def closed_ends() -> dict[int, int]:
        led: dict[int, list[int]] = defaultdict(list)
        for partition in range(partitions):
            leader = client.cluster.leader_for_partition(TopicPartition(topic, partition))
            led[-1 if leader is None else leader].append(partition)
        ends: dict[int, int] = {}
        for leader, those in led.items():
            try:
                probes = [(partition, corrupt_batch()) for partition in those]
                answers = await ask(leader, ProduceRequest(None, 1, TIMEOUT_MS, [(topic, probes)]))
                refused = [(at, LATEST) for at, code, *_ in answers if code == MessageSizeTooLargeError.errno]
                answers = await ask(leader, OffsetRequest(LOG_END, 0, [(topic, refused)])) if refused else []
                ends |= {at: offset for at, code, _, offset, *_ in answers if code == 0}
            except AioKafkaError:  # it is away
                continue
        if len(ends) < partitions:
            await client.force_metadata_update()  # others may lead now
        return ends

    try:
        try:
            await client.bootstrap()
            await client.set_topics([topic])
        except AioKafkaError as error:
            raise NoBrokerError(f"{topic}: its leaders do not answer: {error}") from error
        yield closed_ends
    finally:
        await client.close()
