import json
import socket
import threading
from concurrent.futures import Future
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from unittest.mock import MagicMock

import pytest

from core.errors import NoBrokerError
from core.kafka import admin as kafka_admin
from core.kafka import reachable
from core.kafka.reachable import check_kafka, require_kafka
from core.settings import Settings
from services.gateway.messages import NO_CATALOGUE
from services.stack.errors import StackError
from services.stack.ports import HOST, find_free
from services.stack.readiness import wait_until_ready
from streams.store import connect
from streams.store.connect import RedisUnreachableError, check_redis, require_redis


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
    """As one that was frozen."""
    monkeypatch.setattr(reachable, "ANSWER_TIMEOUT_S", 0.2)
    monkeypatch.setattr(connect, "REQUIRED_TIMEOUT_S", 0.2)
    with pytest.raises(NoBrokerError, match=f"Kafka at {listener} does not answer"):
        require_kafka(Settings(kafka_bootstrap_servers=listener))
    with pytest.raises(RedisUnreachableError, match="no Redis answers"):
        require_redis(Settings(redis_url=f"redis://{listener}/0"))


def test_brokers_that_never_describe_a_topic_are_no_broker(monkeypatch):
    monkeypatch.setattr(kafka_admin, "TOPIC_ID_TIMEOUT_S", 0.05)
    monkeypatch.setattr(kafka_admin, "GRACE_S", 0.0)
    admin = MagicMock()
    admin.describe_topics.return_value = {"botify.listens": Future()}
    with pytest.raises(NoBrokerError, match=r"botify\.listens: no broker answers"):
        kafka_admin.read_topic_id(admin, "botify.listens")


def test_an_address_without_a_port_is_not_reachable():
    with pytest.raises(NoBrokerError, match="no Kafka listens at broker"):
        check_kafka(Settings(kafka_bootstrap_servers="broker"))


@pytest.fixture
def gateway():
    """Say what `/readyz` answers, the last answer for ever; returns the port."""
    answers = []

    class ReadyZ(BaseHTTPRequestHandler):
        def do_GET(self):
            problems = answers.pop(0) if len(answers) > 1 else answers[0]
            body = json.dumps({"ready": not problems, "problems": problems}).encode()
            self.send_response(503 if problems else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer((HOST, 0), ReadyZ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def start(*told):
            answers.extend(told)
            return server.server_address[1]

        yield start
        server.shutdown()


def test_a_gateway_is_waited_for_until_it_is_ready(gateway):
    port = gateway(["starting"], ["Kafka is not reachable", NO_CATALOGUE], [])
    assert wait_until_ready(port, deadline_s=10.0) == []


def test_a_gateway_that_lacks_the_catalogue_only_is_not_waited_for(gateway):
    assert wait_until_ready(gateway(["starting"], [NO_CATALOGUE]), deadline_s=10.0) == [NO_CATALOGUE]


def test_waiting_for_a_gateway_has_an_end_and_says_why(gateway):
    port = gateway(["Kafka is not reachable"])
    with pytest.raises(StackError, match=f"gateway at port {port} is not ready after 0 s: Kafka is not reachable"):
        wait_until_ready(port, deadline_s=0.2)
    with pytest.raises(StackError, match="the stack ended before the gateway was ready"):
        wait_until_ready(port, deadline_s=10.0, running=lambda: False)
    with pytest.raises(StackError, match="it does not answer"):
        wait_until_ready(find_free(), deadline_s=0.2)
