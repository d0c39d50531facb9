import socket

import pytest

from botify.core.errors import NoBrokerError
from botify.core.kafka import layout
from botify.core.kafka.admin import check_kafka, require_kafka
from botify.core.settings import Settings
from botify.services.stack.ports import HOST, find_free
from botify.streams.store import connect
from botify.streams.store.connect import RedisUnreachableError, check_redis, require_redis


@pytest.fixture
def listener():
    with socket.create_server((HOST, 0)) as server:
        yield f"{HOST}:{server.getsockname()[1]}"


def test_one_of_several_brokers_is_enough(listener):
    check_kafka(Settings(kafka_bootstrap_servers=f"{HOST}:{find_free()}, {listener}"))


@pytest.mark.parametrize("scheme", ["redis", "rediss", "redis+cluster"])
def test_redis_by_url(listener, scheme):
    check_redis(Settings(redis_url=f"{scheme}://user:secret@{listener}/0"))


def test_nothing_there_names_the_address_and_the_way_out():
    address = f"{HOST}:{find_free()}"
    with pytest.raises(NoBrokerError, match=f"no Kafka listens at {address}.*botify up"):
        check_kafka(Settings(kafka_bootstrap_servers=address))
    with pytest.raises(RedisUnreachableError, match=f"no Redis listens at {address}.*REDIS_URL"):
        check_redis(Settings(redis_url=f"redis://user:secret@{address}/0"))


def test_a_server_that_takes_connections_and_never_answers_is_told_apart(listener, monkeypatch):
    monkeypatch.setattr(layout, "ANSWER_TIMEOUT_S", 0.2)
    monkeypatch.setattr(connect, "REQUIRED_TIMEOUT_S", 0.2)
    with pytest.raises(NoBrokerError, match=f"Kafka at {listener} does not answer"):
        require_kafka(Settings(kafka_bootstrap_servers=listener))
    with pytest.raises(RedisUnreachableError, match="no Redis answers"):
        require_redis(Settings(redis_url=f"redis://{listener}/0"))
