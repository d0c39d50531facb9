"""What counts as a refusal, and which end is asked for; the brokers' part is in the integration test."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import NodeNotReadyError
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import DefaultRecordBatch

from botify.core.errors import NoBrokerError
from botify.core.kafka import layout
from botify.core.kafka.layout import ask_leaders, corrupt_batch
from botify.core.settings import Settings

OPEN, CLOSED, NOT_LEADER = 2, 10, 6


class Client:
    """Three partitions, led by two brokers; partition 2 has no leader at first.

    Attributes
    ----------
    answers : dict of partition to error code
        To a record.
    """

    def __init__(self, **_: Any) -> None:
        self.answers = {0: CLOSED, 1: OPEN, 2: CLOSED}
        self.leaders: dict[int, int | None] = {0: 1, 1: 2, 2: None}
        self.asked_as: set[int] = set()
        self.cluster = SimpleNamespace(leader_for_partition=lambda at: self.leaders[at.partition])
        self.closed = False

    async def bootstrap(self) -> None:
        pass

    async def set_topics(self, topics: list[str]) -> None:
        pass

    async def force_metadata_update(self) -> None:
        self.leaders[2] = 1

    async def close(self) -> None:
        self.closed = True

    async def send(self, node: int, request: Any) -> Any:
        if node not in (1, 2):
            raise NodeNotReadyError
        if isinstance(request, ProduceRequest):
            ((topic, probes),) = request._topics
            assert not any(DefaultRecordBatch(batch).validate_crc() for _, batch in probes)
            led = {p: code if self.leaders[p] == node else NOT_LEADER for p, code in self.answers.items()}
            return SimpleNamespace(topics=[(topic, [(p, led[p], -1, -1, 0) for p, _ in probes])])
        assert isinstance(request, OffsetRequest)
        self.asked_as.add(request._replica_id)
        ((topic, asked),) = request._topics
        assert all(self.answers[p] == CLOSED for p, _ in asked)
        return SimpleNamespace(topics=[(topic, [(p, 0, -1, 100 + p, 3) for p, _ in asked])])


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    found = Client()
    monkeypatch.setattr(layout, "AIOKafkaClient", lambda **_: found)
    return found


def test_a_partition_is_closed_when_its_leader_refuses_a_record(client: Client) -> None:
    async def go() -> list[dict[int, int]]:
        async with ask_leaders(Settings(), "botify.listens", 3) as closed_ends:
            found = [await closed_ends(), await closed_ends()]
            client.answers[1] = CLOSED
            return [*found, await closed_ends()]

    assert asyncio.run(go()) == [{0: 100}, {0: 100, 2: 102}, {0: 100, 1: 101, 2: 102}]
    assert client.asked_as == {-2}  # the end of the leader's log, not of what is replicated
    assert client.closed


def test_a_probe_is_of_the_form_that_brokers_take_and_corrupt() -> None:
    batch = DefaultRecordBatch(corrupt_batch())
    assert (batch.magic, batch.base_offset, batch.crc == 0) == (2, 0, False)
    assert not batch.validate_crc()
    assert len(corrupt_batch()) > 1  # what a closed topic takes at most


def test_brokers_that_do_not_answer_are_named(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away() -> None:
        raise NodeNotReadyError

    monkeypatch.setattr(client, "bootstrap", away)

    async def go() -> None:
        async with ask_leaders(Settings(), "botify.listens", 3):
            raise AssertionError

    with pytest.raises(NoBrokerError, match="leaders do not answer"):
        asyncio.run(go())
    assert client.closed
