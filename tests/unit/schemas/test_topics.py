from botify.core.kafka.config import consumer_config, partition_of, producer_config
from botify.core.settings import Settings
from botify.schemas.codec import EVENTS
from botify.schemas.topics import Topics


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


def test_every_producer_partitions_as_kafkas_own_clients_do() -> None:
    config = producer_config(Settings(), linger_ms=5)
    assert config["partitioner"] == "murmur2_random"
    assert (config["acks"], config["enable.idempotence"], config["linger.ms"]) == ("all", True, 5)


def test_no_consumer_commits_by_a_timer() -> None:
    assert consumer_config(Settings(), "group")["enable.auto.commit"] is False


def test_security_reaches_every_client() -> None:
    settings = Settings(kafka_security={"security.protocol": "SSL"})
    for config in (producer_config(settings), consumer_config(settings, "group")):
        assert config["security.protocol"] == "SSL"
