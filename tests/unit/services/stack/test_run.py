"""Waiting for a gateway has a deadline, and its errors say what the gateway lacks."""

import json
import shutil
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from botify.services.errors import StackError
from botify.services.gateway.options import NO_CATALOGUE
from botify.services.stack.embedded import take_lock
from botify.services.stack.ports import HOST, find_free
from botify.services.stack.run import start_in_background, wait_for_gateway


@pytest.fixture
def gateway():
    """Serve `/readyz` with the given answers, the last one repeatedly; returns the port."""
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


def test_a_second_stack_leaves_the_log_of_the_first_alone(tmp_path):
    log = tmp_path / "logs" / "stack.log"
    log.parent.mkdir()
    log.write_text("of the first")
    with take_lock(tmp_path), pytest.raises(StackError, match="a stack already runs in"):
        start_in_background(tmp_path, [sys.executable, "-c", "print('of the second')"])
    assert log.read_text() == "of the first"


def test_nothing_is_started_on_a_full_disk(tmp_path, monkeypatch):
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100 << 20))
    with pytest.raises(StackError, match=r"has 100 MB free: Kafka stops below 256 MB and starts with 512 MB"):
        start_in_background(tmp_path, [sys.executable, "-c", "print('started')"])
    assert not (tmp_path / "logs").exists()


def test_a_gateway_is_waited_for_until_it_is_ready(gateway):
    port = gateway(["starting"], ["Kafka is not reachable", NO_CATALOGUE], [])
    assert wait_for_gateway(port, deadline_s=10.0) == []


def test_a_gateway_that_lacks_the_catalogue_only_is_not_waited_for(gateway):
    assert wait_for_gateway(gateway(["starting"], [NO_CATALOGUE]), deadline_s=10.0) == [NO_CATALOGUE]


def test_waiting_for_a_gateway_has_an_end_and_says_why(gateway):
    port = gateway(["Kafka is not reachable"])
    with pytest.raises(StackError, match=f"gateway at port {port} is not ready after 0 s: Kafka is not reachable"):
        wait_for_gateway(port, deadline_s=0.2)
    with pytest.raises(StackError, match="the stack ended before the gateway was ready"):
        wait_for_gateway(port, deadline_s=10.0, running=lambda: False)
    with pytest.raises(StackError, match="it does not answer"):
        wait_for_gateway(find_free(), deadline_s=0.2)
