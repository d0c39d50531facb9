"""A directory has one stack, whose status says what runs; tests/chaos kills, pauses and stops its servers."""

import pytest

from botify.services.errors import PortTakenError, StackError
from botify.services.stack.embedded import EmbeddedStack
from botify.services.stack.status import read_status
from tests.support import make_topic, produce_raw


def test_a_directory_has_one_stack_at_a_time(stack):
    with pytest.raises(StackError, match=r"already runs in .*\(pid \d+\).*botify down"):
        EmbeddedStack(stack.home).start()
    assert all(server.answers() for server in stack.servers)


def test_a_taken_port_starts_nothing(stack, tmp_path):
    second = EmbeddedStack(tmp_path / "second", kafka_port=stack.kafka.port)
    with pytest.raises(PortTakenError, match=rf"port {stack.kafka.port} for kafka is taken by java"):
        second.start()
    assert not any(server.running for server in second.servers)


def test_status_counts_records_and_names_what_ended(stack):
    settings = stack.settings
    produce_raw(settings, make_topic(settings, "botify.listens", 1), [(None, b"one"), (None, b"two")])
    stack.record([], ready=True)  # other tests gave the servers new processes
    status = read_status(settings, interval_s=0.1)
    assert status.topics.records == {"botify.listens": 2}
    assert status.problems == []
    assert [process.state for process in status.processes] == ["running", "running"]
    stack.valkey.kill()
    status = read_status(settings, interval_s=0.1)
    assert [problem.split()[:2] for problem in status.problems] == [["no", "Redis"], ["valkey", "(pid"]]
    assert status.topics.records == {"botify.listens": 2}
    stack.valkey.start()
