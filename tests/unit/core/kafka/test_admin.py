import socket
from collections.abc import Iterator
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from botify.core.errors import NoBrokerError, PositionError
from botify.core.kafka import admin, layout
from botify.core.kafka.admin import (
    TopicPosition,
    TopicState,
    check_kafka,
    end_offsets,
    parse_position,
    partition_counts,
    require_kafka,
    retry_brokers,
)
from botify.core.kafka.config import is_retriable
from botify.core.settings import Settings
from botify.services.stack.ports import HOST, find_free
from botify.streams.store import connect
from botify.streams.store.connect import RedisUnreachableError, check_redis, require_redis

NOW_MS = 1_800_000_000_000


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("earliest", TopicPosition("earliest")),
        ("latest", TopicPosition("latest")),
        ("offset:17", TopicPosition("offset", 17)),
        ("ts:2026-01-31T12:00:00Z", TopicPosition("timestamp", 1_769_860_800_000)),
        ("ts:2026-01-31T12:00:00", TopicPosition("timestamp", 1_769_860_800_000)),
        ("ts:2026-01-31T13:00:00.5+01:00", TopicPosition("timestamp", 1_769_860_800_500)),
        ("duration:PT1H", TopicPosition("timestamp", NOW_MS - 3_600_000)),
        ("duration:P2DT3M4S", TopicPosition("timestamp", NOW_MS - 172_984_000)),
    ],
)
def test_places_are_read(text: str, position: TopicPosition) -> None:
    assert parse_position(text, NOW_MS) == position


@pytest.mark.parametrize(
    "text", ["", "begin", "offset:", "offset:-1", "offset:x", "ts:yesterday", "duration:1h", "duration:P", "latest:1"]
)
def test_what_is_no_place_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(PositionError, match=r"say earliest, latest, offset:N"):
        parse_position(text, NOW_MS)


@pytest.mark.parametrize(
    ("text", "offsets"),
    [
        ("earliest", {0: 10, 1: 0}),
        ("latest", {0: 50, 1: 20}),
        ("offset:30", {0: 30, 1: 20}),
        ("offset:5", {0: 10, 1: 5}),
    ],
)
def test_a_place_is_an_offset_in_each_partition(text: str, offsets: dict[int, int]) -> None:
    topic = TopicState("t", "an-id", {0: 10, 1: 0}, {0: 50, 1: 20})
    assert topic.offsets_of(parse_position(text, NOW_MS), Settings()) == offsets


def test_a_broker_that_restarts_is_waited_for_and_what_will_not_change_is_not() -> None:
    no_leaders, just_back = KafkaError._NOENT, KafkaError.UNKNOWN_LEADER_EPOCH
    moving = KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.COORDINATOR_LOAD_IN_PROGRESS
    assert all(is_retriable(KafkaError(code)) for code in (KafkaError._TRANSPORT, no_leaders, just_back, *moving))
    lasting = KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.INVALID_CONFIG
    assert not any(is_retriable(KafkaError(code)) for code in lasting)


class Admin:
    """Of a broker that fails some requests before it answers."""

    def __init__(self, *failures: int) -> None:
        self._failures = list(failures)

    def list_topics(self, timeout: float) -> Any:
        if self._failures:
            raise KafkaException(KafkaError(self._failures.pop(0)))
        return SimpleNamespace(topics={"listens": SimpleNamespace(partitions=[0, 1])})


def test_a_broker_that_goes_down_while_it_says_which_topics_there_are_is_asked_again() -> None:
    assert partition_counts(Admin(KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN)) == {"listens": 2}


def test_what_a_worker_asks_is_asked_again_while_no_broker_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "RETRY_PAUSE_S", 0.001)
    failures: list[Exception] = [NoBrokerError("none"), KafkaException(KafkaError(KafkaError._TRANSPORT))]

    def ask() -> str:
        if failures:
            raise failures.pop()
        return "an answer"

    assert retry_brokers(ask) == "an answer"
    failures[:] = [KafkaException(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))]
    with pytest.raises(KafkaException):
        retry_brokers(ask)
    failures[:] = [NoBrokerError("none")] * 1_000
    with pytest.raises(NoBrokerError):
        retry_brokers(ask, timeout_s=0.01)


def test_a_client_that_goes_on_finding_no_leaders_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    class StuckAtFirst(Admin):
        def __init__(self, config: object) -> None:
            super().__init__()
            self._stuck = not made  # the one that says how many partitions there are
            made.append(self)

        def list_offsets(self, asked: Any, **_: Any) -> dict[TopicPartition, Future[Any]]:
            answer = Future[Any]()
            if self._stuck:
                answer.set_exception(KafkaException(KafkaError(KafkaError._NOENT)))
            else:
                answer.set_result(SimpleNamespace(offset=7))
            return dict.fromkeys(asked, answer)

    monkeypatch.setattr(admin, "AdminClient", StuckAtFirst)
    assert end_offsets(Settings(), "listens") == {0: 7, 1: 7}
    assert len(made) == 2


@pytest.fixture
def listener() -> Iterator[str]:
    with socket.create_server((HOST, 0)) as server:
        yield f"{HOST}:{server.getsockname()[1]}"


def test_one_of_several_brokers_is_enough(listener: str) -> None:
    check_kafka(Settings(kafka_bootstrap_servers=f"{HOST}:{find_free()}, {listener}"))


@pytest.mark.parametrize("scheme", ["redis", "rediss", "redis+cluster"])
def test_redis_by_url(listener: str, scheme: str) -> None:
    check_redis(Settings(redis_url=f"{scheme}://user:secret@{listener}/0"))


def test_nothing_there_names_the_address_and_the_way_out() -> None:
    address = f"{HOST}:{find_free()}"
    with pytest.raises(NoBrokerError, match=f"no Kafka listens at {address}.*botify up"):
        check_kafka(Settings(kafka_bootstrap_servers=address))
    with pytest.raises(RedisUnreachableError, match=f"no Redis listens at {address}.*REDIS_URL"):
        check_redis(Settings(redis_url=f"redis://user:secret@{address}/0"))


def test_a_server_that_takes_connections_and_never_answers_is_told_apart(
    listener: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "ANSWER_TIMEOUT_S", 0.2)
    monkeypatch.setattr(connect, "REQUIRED_TIMEOUT_S", 0.2)
    with pytest.raises(NoBrokerError, match=f"Kafka at {listener} does not answer"):
        require_kafka(Settings(kafka_bootstrap_servers=listener))
    with pytest.raises(RedisUnreachableError, match="no Redis answers"):
        require_redis(Settings(redis_url=f"redis://{listener}/0"))
