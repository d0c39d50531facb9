"""Invariant: whatever brokers take on any topic, every reader of it continues and says what it could not read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest
import typer
from confluent_kafka import Producer
from typer.testing import CliRunner

from analytics.export.run import TIME_COLUMNS, export_topic
from core.kafka.config import key_of, producer_config
from core.kafka.headers import headers_of
from core.kafka.replies import ReplyReader
from core.settings import Settings
from schemas.catalogue import CatalogueReader
from schemas.codec import Codec
from schemas.dead_letters import RejectedBefore, dead_letter_headers
from schemas.events import Feedback, Listen, Model, RampStep, Recommendation, Session, TrainingBatch
from schemas.models import ModelReader
from schemas.topics import TopicDefinition, Topics
from schemas.training import training_batches_of
from services.dashboard.listens import ListenReader
from services.dashboard.readers import ExperimentsReader, LettersReader, ModelsReader
from services.experiments.live import read_steps
from streams.cli import replay
from streams.cli.dlq import app as dlq
from streams.cli.verify import verify
from streams.dlq.erase import erase_listener
from streams.dlq.letters import read_letters
from streams.store.connect import connect
from tests.hostile import Raw, hostile_records, produce_batches, raw_batch
from tests.integration.services.recommender.test_service import committed, requests
from tests.learning import all_learned
from tests.support import (
    all_folded,
    checkpoints,
    eventually,
    make_listens,
    make_tracks,
    offline_fold,
    produce,
    read_topic,
    redis_contents,
    running,
    write_catalogue,
)

TRACKS, HOSTILE = 100, 420
CODEC = Codec()
cli = typer.Typer()
cli.command("verify")(verify)
for name, group in (("replay", replay.app), ("dlq", dlq)):
    cli.add_typer(group, name=name)


def botify(settings: Settings, *arguments: str, status: int = 0) -> str:
    done = CliRunner().invoke(cli, arguments, env=settings.to_env(), catch_exceptions=False)
    assert done.exit_code == status, done.output
    return done.stdout


def valid(definition: TopicDefinition) -> dict[bytes | None, bytes]:
    """Return good records of a topic, by key."""
    listens = make_listens(20, users=20, tracks=TRACKS, seed=9)
    body = b"a body"
    made: dict[Any, list[tuple[bytes, Any]]] = {
        Recommendation: [(b"7", Recommendation("r:0", 7, 1, "random", {}, 1.0, 0, 0.5, 1_000))],
        Session: [(b"7", Session("0-1", "s", 7, 0, 1, 1, 0.5, "end"))],
        Feedback: [(b"7", Feedback("f", 7, 1, "like", 1_000))],
        Model: [(b"i2i_stream", Model("i2i_stream", 1, body, hashlib.sha256(body).hexdigest(), 1_000))],
        RampStep: [(b"ramp", RampStep("ramp", 0.1, None, 0, 1_000, "begins"))],
        TrainingBatch: [(b"0", one) for one in training_batches_of("id", 0, 0, 20, list(enumerate(listens)))],
    }
    of_listens = {"Listen": listens, "RecommendationRequest": requests(20), "Track": make_tracks(20)}
    if definition.event is None:
        return {key_of(listen.user): CODEC.encode(listen) for listen in listens}
    if definition.event in made:
        return {key: CODEC.encode(event) for key, event in made[definition.event]}
    events: Any = of_listens[definition.event.__name__]
    return {
        key_of(getattr(event, "track" if definition.event.__name__ == "Track" else "user")): CODEC.encode(event)
        for event in events
    }


def hostile_batches(definition: TopicDefinition, partitions: int, seed: int) -> Iterator[tuple[int, bytes]]:
    """Yield batches of every codec; some come twice, and some are cut off."""
    records = list(hostile_records(valid(definition), np.random.default_rng(seed), HOSTILE))
    if definition.event is None:
        origin = [(name.encode(), value) for name, value in dead_letter_headers("t", 0, 1, None, ValueError("no"))]
        records = [one._replace(headers=[*one.headers, *origin[: at % 7]]) for at, one in enumerate(records)]
    for at, one in enumerate(records):
        batch = raw_batch([one], at % 5)
        yield at % partitions, batch
        if at % 10 == 0:
            yield at % partitions, batch
            yield at % partitions, batch[:-1]


def write_hostile(settings: Settings) -> None:
    for seed, definition in enumerate(Topics.of(settings).all()):
        batches = hostile_batches(definition, definition.partitions or settings.partitions, seed)
        codes = produce_batches(settings, definition.name, batches)
        assert codes.count(0) > HOSTILE / 2, definition.name


@pytest.fixture
def hostile(settings: Settings) -> Settings:
    write_catalogue(settings, TRACKS)
    write_hostile(settings)
    topics = Topics.of(settings)
    produce(settings, topics.listens.name, make_listens(2_000, users=50, tracks=TRACKS, seed=8))
    produce(settings, topics.recommendation_requests.name, requests(100, first=50))
    return settings


def test_every_reader_of_every_topic_continues(hostile: Settings) -> None:
    settings, topics = hostile, Topics.of(hostile)
    programs = ("streams.worker", "streams.learner", "services.recommender")
    with (
        running(settings, programs[0]) as worker,
        running(settings, programs[1]) as learner,
        running(settings, programs[2]) as recommender,
    ):
        eventually(all_folded(settings))
        erased = erase_listener(settings, 7, lambda partition: checkpoints(settings).get(partition))
        assert erased > 0
        eventually(lambda: committed(settings))
        eventually(lambda: all_learned(settings), 90)
        assert [one.poll() for one in (worker, learner, recommender)] == [None] * 3
        told = json.loads(botify(settings, "verify", "--json"))
        assert (told["ok"], told["standing"], told["unfolded"]) == (True, [], 0)
    asked = {f"s{number}:0" for number in range(50, 150)}
    assert asked <= {one.request_id for one in answers_that_can_be_read(settings)}
    assert json.loads(botify(settings, "verify", "--json", "--one-by-one"))["ok"]
    assert json.loads(botify(settings, "replay", "run", "--json"))["equals_live"]
    assert json.loads(botify(settings, "dlq", "exclude", "--user", "11", "--reason", "a bot", "--yes", "--json"))
    letters = {letter.origin.topic for letter in read_letters(settings)}
    assert {topics.listens.name, topics.recommendation_requests.name, topics.training.name} <= letters
    botify(settings, "dlq", "list", "--json")
    read_all(settings)


def answers_that_can_be_read(settings: Settings) -> list[Recommendation]:
    values = [message.value() for message in read_topic(settings, Topics.of(settings).recommendations.name)]
    decoded = CODEC.decode_many([value or b"" for value in values], Recommendation)
    return [one for one in decoded if isinstance(one, Recommendation)]


def read_all(settings: Settings) -> None:
    """Read each topic with the readers that are no programs."""
    topics, redis = Topics.of(settings), connect(settings)
    for definition in topics.all():
        messages = read_topic(settings, definition.name)
        assert all(headers_of(message) == headers_of(message) for message in messages)
        if definition.event in TIME_COLUMNS:
            export_topic(settings, definition, settings.home / definition.name)
    for reader in (
        LettersReader(settings, redis),
        ModelsReader(settings, redis, CODEC),
        ExperimentsReader(settings, CODEC),
        ListenReader(settings, CODEC),
    ):
        with closing(reader):
            reader.read()
    with closing(CatalogueReader(settings, CODEC)) as catalogue:
        catalogue.refresh()
        assert len(catalogue.tracks) >= TRACKS
    with closing(RejectedBefore(settings, topics.listens.name)) as rejected:
        rejected.refresh()
        assert sum(map(len, rejected.offsets.values())) > 100
    with closing(ModelReader(settings, CODEC)) as models:
        followed = models.follow("i2i_stream", lambda model: model)
        models.refresh()
        assert followed.newest_offset >= 0
    assert "ramp" in read_steps(settings, CODEC)
    with closing(
        ReplyReader(settings, topics.recommendations.name, b"", 1.0, "test", choose=lambda some: some[0])
    ) as replies:
        eventually(lambda: replies.listening)
        write = [Raw(b"7", value, [(b"\xff", b"")]) for value in (b"?", None, CODEC.encode(valid_recommendation()))]
        produce_batches(settings, topics.recommendations.name, [(0, raw_batch(write))])
        found: list[bytes] = []
        eventually(lambda: found.extend(replies.poll(10, 0.1)) or len(found) >= 2)
    redis.close()


def valid_recommendation() -> Recommendation:
    return Recommendation("r:0", 7, 1, "random", {}, 1.0, 0, 0.5, 1_000)


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
    with running(settings, "streams.worker") as worker:
        for folded in (200, 400):
            eventually(lambda of=folded: json.loads(botify(settings, "verify", "--json"))["listens"] == of)
            told = json.loads(botify(settings, "verify", "--json"))
            assert (told["ok"], told["listens"], told["standing"]) == (True, folded, [])
            assert redis_contents(settings) == offline_fold(settings).contents()
            if folded == 200:
                still_open.commit_transaction(30)
        assert worker.poll() is None
    assert json.loads(botify(settings, "replay", "run", "--json"))["equals_live"]
