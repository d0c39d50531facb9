"""Proof that a topic is closed: the leader of each partition refuses records, and says where its log ends.

The controller answers before brokers apply an option (`alter_topics`). So each leader is asked itself, with a batch
whose checksum is wrong. Brokers check the size of a batch before its checksum: a closed topic says that it is too
large, an open one that it is corrupt. No topic takes it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from botify.core.errors import NoBrokerError
from botify.core.kafka.security import aiokafka_security
from botify.core.settings import Settings

TIMEOUT_MS = 2_000
CRC_OFFSET = 17
"""Where a batch has its checksum."""
LOG_END, LATEST = -2, -1
"""Asked by this replica id (the debugging replica's), a leader says where its log ends. Consumers get the end of what
all in-sync replicas have; the rest may be acknowledged a moment later."""

ClosedEnds = Callable[[], Awaitable[dict[int, int]]]
"""Returns the end of the log of each partition whose leader refuses records; leaves out the others."""


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
            except KafkaError:  # it is away
                continue
        if len(ends) < partitions:
            await client.force_metadata_update()  # others may lead now
        return ends

    try:
        try:
            await client.bootstrap()
            await client.set_topics([topic])
        except KafkaError as error:
            raise NoBrokerError(f"{topic}: its leaders do not answer: {error}") from error
        yield closed_ends
    finally:
        await client.close()
