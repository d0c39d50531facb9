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


def test_clients_partition_as_kafkas_own_do_lose_nothing_and_are_secured() -> None:
    settings = Settings(kafka_security={"security.protocol": "SSL"})
    producing, consuming = producer_config(settings, linger_ms=5), consumer_config(settings, "group")
    assert producing["partitioner"] == "murmur2_random"
    assert (producing["acks"], producing["enable.idempotence"], producing["linger.ms"]) == ("all", True, 5)
    assert consuming["enable.auto.commit"] is False
    assert producing["security.protocol"] == consuming["security.protocol"] == "SSL"
