"""Invariant: readers that are no programs continue over any record of their topic; librdkafka's mock is the broker."""

from collections.abc import Callable, Iterator
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from confluent_kafka import Producer

from botify.analytics.export import Erasures
from botify.core.errors import DecodeError, RejectedMessageError
from botify.core.kafka.headers import headers_of
from botify.core.kafka.reader import log_record
from botify.core.kafka.replies import ReplyReader
from botify.core.settings import Settings
from botify.schemas.catalogue import CatalogueReader
from botify.schemas.codec import Codec
from botify.schemas.dead_letters import RejectedBefore, originals_of
from botify.schemas.events import Feedback, Listen, Recommendation, RecommendationRequest, TrainingBatch
from botify.schemas.models import ModelReader
from botify.schemas.topics import TopicDefinition, Topics
from botify.schemas.training import listens_of
from botify.schemas.validation import Intake, decode_and_validate
from botify.services.dashboard.readers import experiments_reader, letters_reader, listens_reader, models_reader
from botify.services.experiments.live import read_steps
from botify.streams.dlq.letters import read_letters
from botify.streams.folds.feedback import with_said
from botify.streams.replay.models import _copied
from tests.hostile import Raw, hostile_batches, produce_batches, raw_batch
from tests.support import eventually, read_topic

CODEC = Codec()
TRACKS, COUNT = 20, 210
DEFINITIONS = Topics.of(Settings()).all()
REDIS: Any = SimpleNamespace(
    hmget=lambda key, fields: [None] * len(fields), hstrlen=lambda key, field: 0, get=lambda key: None
)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    producer = Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": 1, "log_level": 0})
    brokers = producer.list_topics("t", timeout=10).brokers.values()
    address = ",".join(f"{one.host}:{one.port}" for one in brokers)
    settings = Settings(kafka_bootstrap_servers=address, home=tmp_path_factory.mktemp("home"), partitions=4)
    for definition in DEFINITIONS:
        partitions = definition.partitions or settings.partitions
        # it would take batches that are cut off, which brokers refuse
        batches = hostile_batches(definition, partitions, TRACKS, COUNT, cut=False)
        assert set(produce_batches(settings, definition.name, batches)) == {0}
    yield settings
    producer.flush(10)


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda one: one.name)
def test_every_record_has_headers_and_is_an_event_or_a_reason(hostile: Settings, definition: TopicDefinition) -> None:
    messages = read_topic(hostile, definition.name)
    assert len(messages) > COUNT / 2
    for message in messages:
        assert all(isinstance(name, str) and isinstance(value, bytes) for name, value in headers_of(message))
        assert headers_of(message) == log_record(message).headers
        assert originals_of(message) == []
    if definition.event is not None:
        found = CODEC.decode_many([message.value() for message in messages], definition.event)
        assert set(map(type, found)) == {definition.event, DecodeError}


@pytest.mark.parametrize(
    ("event", "options"),
    [
        (Listen, {}),
        (RecommendationRequest, {}),
        (Feedback, {}),
        (TrainingBatch, {"validate": lambda batch, raw: listens_of(batch, raw, None), "tracks_of": lambda listens: []}),
    ],
)
def test_every_record_is_accepted_or_a_dead_letter(hostile: Settings, event: Any, options: Any) -> None:
    (definition,) = [one for one in DEFINITIONS if one.event is event]
    records = [log_record(message) for message in read_topic(hostile, definition.name)]
    judged = list(decode_and_validate(records, event, Intake(CODEC), **options))
    assert [record for record, _ in judged] == records
    rejected = [one for _, one in judged if isinstance(one, RejectedMessageError)]
    assert 0 < len(rejected) < len(judged)
    if event is Feedback:
        said = [one for _, one in judged if one not in rejected]
        assert all(with_said(b"", [(one.timestamp_ms, one.track, one.kind)]) for one in said)


def refreshed(reader: Any) -> Any:
    with closing(reader):
        reader.refresh()
        return reader


def read_models(settings: Settings) -> Any:
    models = ModelReader(settings, CODEC)
    followed = models.follow("fism", lambda model: model)
    refreshed(models)
    return followed.newest_offset


def rejected(settings: Settings) -> Any:
    letters = refreshed(RejectedBefore(settings, Topics.of(settings).listens.name))
    return [np.fromiter(offsets, np.int64) for offsets in letters.offsets.values()]  # as learners do


def read(reader: Any) -> Any:
    with closing(reader):
        return next(reader) is not None


READERS: dict[str, Callable[[Settings], Any]] = {
    "catalogue": lambda settings: list(refreshed(CatalogueReader(settings, CODEC)).tracks.values()),
    "models": read_models,
    "models, dashboard": lambda settings: read(models_reader(settings, REDIS, CODEC)),
    "experiments": lambda settings: read_steps(settings, CODEC),
    "experiments, dashboard": lambda settings: read(experiments_reader(settings, CODEC)),
    "listens, dashboard": lambda settings: read(listens_reader(settings, CODEC)),
    "dead letters": rejected,
    "dead letters, list": lambda settings: list(read_letters(settings)),
    "dead letters, dashboard": lambda settings: read(letters_reader(settings, REDIS)),
    "feedback, exports": lambda settings: refreshed(Erasures(settings)),
    "training, other shards": lambda settings: _copied(settings, CODEC),
}


@pytest.mark.parametrize("name", READERS)
def test_every_reader_continues_over_them(hostile: Settings, name: str) -> None:
    assert READERS[name](hostile)


def test_replies_are_read_over_those_that_cannot_be(hostile: Settings) -> None:
    topic = Topics.of(hostile).recommendations.name
    answer = CODEC.encode(Recommendation("r:0", 7, 1, "random", {}, 1.0, 0, 0.5, 1_000))
    found: list[bytes] = []
    with closing(ReplyReader(hostile, topic, b"", 1.0, "test", choose=min)) as replies:
        eventually(lambda: replies.poll(100, 0.1) or replies.listening, timeout_s=10)
        write = [Raw(b"7", value, [(b"\xff", b"")]) for value in (b"?", None, answer)]
        assert produce_batches(hostile, topic, [(0, raw_batch(write))]) == [0]
        eventually(lambda: found.extend(replies.poll(100, 0.1)) or len(found) == 2, timeout_s=10, what=found)
    assert found == [b"?", answer]
