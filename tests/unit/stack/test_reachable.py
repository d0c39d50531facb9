import socket

import pytest

from schemas.settings import Settings
from services.stack.errors import StackError
from services.stack.ports import HOST, find_free
from services.stack.reachable import check_kafka, check_redis, wait_for_port


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
    with pytest.raises(StackError, match=f"no Kafka listens at {address}.*botify up"):
        check_kafka(Settings(kafka_bootstrap_servers=address))
    with pytest.raises(StackError, match=f"no Redis listens at {address}.*REDIS_URL"):
        check_redis(Settings(redis_url=f"redis://user:secret@{address}/0"))


def test_an_address_without_a_port_is_not_reachable():
    with pytest.raises(StackError, match="no Kafka listens at broker"):
        check_kafka(Settings(kafka_bootstrap_servers="broker"))


def test_a_port_is_waited_for_and_the_wait_has_an_end():
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
        wait_for_port("the gateway", port, deadline_s=10.0)
    with pytest.raises(StackError, match=f"the gateway does not listen at port {port} after 0 s"):
        wait_for_port("the gateway", port, deadline_s=0.2)
