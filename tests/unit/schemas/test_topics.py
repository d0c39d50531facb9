from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka.admin import NewTopic

from botify.core.kafka import admin
from botify.core.kafka.config import consumer_config, partition_of, producer_config
from botify.core.settings import Settings
from botify.schemas import topics as topics_module
from botify.schemas.codec import EVENTS
from botify.schemas.topics import Topics, create_topics


def test_every_event_has_a_topic_and_the_dead_letters_have_none() -> None:
    topics = Topics.of(Settings())
    assert {topic.event for topic in topics.all() if topic.event} == set(EVENTS.values())
    assert topics.dead_letters.event is None


def test_the_source_of_truth_is_kept_and_the_catalogue_compacted() -> None:
    topics = Topics.of(Settings())
    assert topics.listens.config == {
        "cleanup.policy": "delete",
        "retention.ms": "-1",
        "message.timestamp.type": "LogAppendTime",
        "message.timestamp.after.max.ms": "600000",  # ten minutes
    }
    assert topics.catalogue.config == {"cleanup.policy": "compact"}


def test_a_user_has_the_partition_that_kafkas_own_clients_choose() -> None:
    hashed = -973932308 & 0x7FFFFFFF  # murmur2 of "21" by Kafka's own UtilsTest
    assert partition_of(21, 1 << 31) == hashed
    assert partition_of(21, 8) == hashed % 8


def test_clients_partition_as_kafkas_own_do_lose_nothing_and_are_secured() -> None:
    settings = Settings(kafka_security={"security.protocol": "SSL"})
    producing, consuming = producer_config(settings, linger_ms=5), consumer_config(settings, "group")
    assert producing["partitioner"] == "murmur2_random"
    assert (producing["acks"], producing["enable.idempotence"], producing["linger.ms"]) == ("all", True, 5)
    assert consuming["enable.auto.commit"] is False
    assert producing["security.protocol"] == consuming["security.protocol"] == "SSL"


def test_topics_are_made_once_every_broker_lists_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that starts next asks any broker."""
    settings = Settings(partitions=2, kafka_bootstrap_servers="a:1,b:2")
    made: dict[str, SimpleNamespace] = {}
    asked: list[str] = []

    class Brokers:
        """Two, of which the second lists what is made when it is asked for the third time."""

        def __init__(self, config: dict[str, Any]) -> None:
            self.address = config["bootstrap.servers"]

        def create_topics(self, topics: list[NewTopic], operation_timeout: float) -> dict[str, Future[None]]:
            made.update({one.topic: SimpleNamespace(partitions=range(one.num_partitions)) for one in topics})
            done: Future[None] = Future()
            done.set_result(None)
            return dict.fromkeys(made, done)

        def list_topics(self, timeout: float) -> SimpleNamespace:
            asked.append(self.address)
            lags = asked.count("b:2") < 3 and self.address == "b:2"
            brokers = {1: SimpleNamespace(host="a", port=1), 2: SimpleNamespace(host="b", port=2)}
            return SimpleNamespace(topics={} if lags else made, brokers=brokers)

    for module in (admin, topics_module):
        monkeypatch.setattr(module, "AdminClient", Brokers)
    assert create_topics(settings) == [topic.name for topic in Topics.of(settings).all()]
    assert asked == ["a:1,b:2", "a:1,b:2", "a:1", "b:2", "b:2", "b:2"]
