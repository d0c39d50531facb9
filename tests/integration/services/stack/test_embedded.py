"""The servers keep their data through stops, kills and pauses; a directory has one stack."""

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from botify.core.kafka.config import common_config
from botify.services.errors import PortTakenError, StackError
from botify.services.stack.embedded import EmbeddedStack
from botify.services.stack.status import read_status
from botify.streams.store.connect import connect
from tests.support import eventually, produce_raw, read_topic


def make_topic(settings, name, *values):
    admin = AdminClient(common_config(settings))
    admin.create_topics([NewTopic(name, 1, 1)])[name].result(30)
    produce_raw(settings, name, [(None, value) for value in values])


def test_killed_servers_keep_what_they_acknowledged(stack):
    make_topic(stack.settings, "kept", b"one")
    connect(stack.settings).set("kept", "yes")
    for server in stack.servers:
        server.kill()
        assert not server.running
        server.start()
    assert [message.value() for message in read_topic(stack.settings, "kept")] == [b"one"]
    assert connect(stack.settings).get("kept") == b"yes"


def test_a_paused_server_keeps_its_process_and_answers_again(stack):
    pid = stack.valkey.pid
    stack.valkey.pause()
    assert not stack.valkey.answers()
    stack.valkey.resume()
    eventually(stack.valkey.answers, what="answer after the pause")
    assert stack.valkey.pid == pid


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
    make_topic(settings, "botify.listens", b"one", b"two")
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
