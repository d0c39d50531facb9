"""The servers keep their data through stops, kills and pauses; a directory has one stack."""

import pytest
import redis
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from botify.core.kafka.config import common_config, consumer_config, producer_config
from botify.services.errors import PortTakenError, StackError
from botify.services.stack.embedded import EmbeddedStack
from botify.services.stack.status import read_status
from tests.support import eventually

pytestmark = pytest.mark.integration


def make_topic(settings, name="kept"):
    admin = AdminClient(common_config(settings))
    admin.create_topics([NewTopic(name, 1, 1)])[name].result(30)


def produce(settings, *values, topic="kept"):
    producer = Producer(producer_config(settings))
    for value in values:
        producer.produce(topic, value)
    assert producer.flush(30) == 0


def consume(settings, count, topic="kept"):
    consumer = Consumer(consumer_config(settings, group="test"))
    consumer.assign([TopicPartition(topic, 0, 0)])
    values = [message.value() for message in consumer.consume(count, timeout=30)]
    consumer.close()
    return values


def redis_of(settings):
    return redis.Redis.from_url(settings.redis_url, socket_timeout=10)


def test_killed_servers_keep_what_they_acknowledged(stack):
    make_topic(stack.settings)
    produce(stack.settings, b"one")
    redis_of(stack.settings).set("kept", "yes")
    for server in stack.servers:
        server.kill()
        assert not server.running
        server.start()
    assert consume(stack.settings, 1) == [b"one"]
    assert redis_of(stack.settings).get("kept") == b"yes"


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
    make_topic(settings, "botify.listens")
    produce(settings, b"one", b"two", topic="botify.listens")
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
