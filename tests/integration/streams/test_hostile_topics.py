"""Invariant: whatever brokers take on any topic, every program continues and says what it could not read."""

from concurrent.futures import ThreadPoolExecutor

from confluent_kafka import Producer

from botify.analytics.export import TIME_COLUMNS, export_topic
from botify.core.kafka.config import key_of, producer_config
from botify.core.kafka.layout import alter_topics
from botify.core.settings import Settings
from botify.schemas.codec import Codec
from botify.schemas.events import Feedback, Listen, Recommendation
from botify.schemas.topics import TopicDefinition, Topics
from botify.streams.dlq.exclude import erase_listener
from botify.streams.dlq.letters import read_letters
from tests.commands import as_json, botify
from tests.hostile import hostile_batches, produce_batches
from tests.integration.services.recommender.test_service import committed, requests
from tests.learning import all_learned
from tests.support import (
    all_folded,
    checkpoints,
    eventually,
    listens_of_users,
    make_listens,
    offline_fold,
    produce,
    read_topic,
    redis_contents,
    running,
    write_catalogue,
)

TRACKS, HOSTILE = 100, 210
CODEC = Codec()


def test_every_reader_of_every_topic_continues(settings: Settings) -> None:
    topics = Topics.of(settings)
    write_catalogue(settings, TRACKS)
    # their times are old: brokers would delete them as soon as they look, which is every five minutes
    alter_topics(settings, {one.name: {"retention.ms": "-1"} for one in topics.all()})

    def send(topic: TopicDefinition) -> list[int]:
        batches = hostile_batches(topic, topic.partitions or settings.partitions, TRACKS, HOSTILE)
        return produce_batches(settings, topic.name, batches)

    with ThreadPoolExecutor() as pool:  # each batch is acknowledged before the next one of its topic is sent
        assert all(codes.count(0) > HOSTILE / 2 for codes in pool.map(send, topics.all()))
    produce(settings, topics.listens.name, make_listens(800, users=50, tracks=TRACKS, seed=8))
    produce(settings, topics.recommendation_requests.name, requests(100, first=50))
    produce(settings, topics.feedback.name, [Feedback(f"f{at}", at, at % TRACKS, "like", at) for at in range(50)])
    with (
        running(settings, "botify.streams.worker") as worker,
        running(settings, "botify.streams.learner") as learner,
        running(settings, "botify.services.recommender") as recommender,
    ):
        eventually(all_folded(settings), 120, lambda: checkpoints(settings))
        eventually(lambda: committed(settings))
        eventually(lambda: all_learned(settings), 90)
        told = as_json(settings, "verify")
        assert (told["ok"], told["standing"], told["unfolded"]) == (True, [], 0)
        assert told["feedback"]["standing"] == []
        assert as_json(settings, "replay", "run")["equals_live"]
        assert erase_listener(settings, 7, lambda partition: checkpoints(settings).get(partition)) > 0
        assert [one.poll() for one in (worker, learner, recommender)] == [None] * 3
    replies = [message.value() or b"" for message in read_topic(settings, topics.recommendations.name)]
    answers = [one for one in CODEC.decode_many(replies, Recommendation) if isinstance(one, Recommendation)]
    assert {f"s{number}:0" for number in range(50, 150)} <= {one.request_id for one in answers}
    botify(settings, "dlq", "exclude", "--user", "11", "--reason", "a bot")
    without = as_json(settings, "replay", "run")["namespace"]
    assert as_json(settings, "verify", "--one-by-one", "--namespace", without)["ok"]
    letters = {letter.origin.topic for letter in read_letters(settings)}
    assert {topics.listens.name, topics.recommendation_requests.name, topics.training.name} <= letters
    botify(settings, "dlq", "list", "--json")
    botify(settings, "dlq", "redrive", "--topic", topics.listens.name)
    for definition in topics.all():
        if definition.event in TIME_COLUMNS:
            assert export_topic(settings, definition, settings.home / definition.name).rows > 0


def in_transaction(settings: Settings, listens: list[Listen]) -> Producer:
    """Write listens in a transaction, which stays open until the producer ends it."""
    producer = Producer(producer_config(settings, transactional_id=listens[0].event_id))
    producer.init_transactions(30)
    producer.begin_transaction()
    for listen in listens:
        producer.produce(Topics.of(settings).listens.name, CODEC.encode(listen), key_of(listen.user))
    assert producer.flush(30) == 0
    return producer


def test_what_is_committed_is_folded_and_nothing_else(settings: Settings) -> None:
    write_catalogue(settings, TRACKS)
    listens = make_listens(600, users=100, tracks=TRACKS, seed=10)
    in_transaction(settings, listens[:200]).commit_transaction(30)
    in_transaction(settings, listens[200:400]).abort_transaction(30)
    still_open = in_transaction(settings, listens[400:])
    with running(settings, "botify.streams.worker") as worker:
        for folded in (200, 400):
            eventually(lambda of=folded: sum(listens_of_users(redis_contents(settings)).values()) == of)
            told = as_json(settings, "verify")
            assert (told["ok"], told["listens"], told["standing"]) == (True, folded, [])
            assert redis_contents(settings) == offline_fold(settings).contents()
            if folded == 200:
                still_open.commit_transaction(30)
        assert worker.poll() is None
    assert as_json(settings, "replay", "run")["equals_live"]
