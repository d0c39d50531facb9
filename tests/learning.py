"""Listens to learn from, what a learner left, and what a plain fold of the training topic gives."""

from collections.abc import Container, Sequence
from contextlib import closing
from dataclasses import dataclass, field, fields
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from botify.core.errors import RejectedMessageError
from botify.core.kafka.admin import end_offsets
from botify.core.settings import Settings
from botify.schemas.codec import Codec
from botify.schemas.events import Listen, Model, Track, TrainingBatch
from botify.schemas.models import model_of, publish_models
from botify.schemas.topics import Topics
from botify.schemas.training import Shard, TrainingColumns, listens_of, training_batch_of
from botify.streams.learner.learner import Learner
from botify.streams.learner.model import MODELS, OnlineModel
from botify.streams.learner.partition import LEARNER, SNAPSHOTS
from botify.streams.read import StateReader
from botify.streams.store.connect import connect
from botify.streams.store.keys import learner_prefix, partition_key
from tests.support import all_folded, make_tracks, next_offsets, read_events, read_topic

CODEC = Codec()
TRACKS = 30
CATALOGUE = {track.track: track for track in make_tracks(TRACKS)}


def batches(listens: Sequence[Listen], size: int, partition: int = 0, topic_id: str = "t") -> list[TrainingBatch]:
    records = list(enumerate(listens))
    return [
        training_batch_of(topic_id, partition, at, min(at + size, len(records)), records[at : at + size])
        for at in range(0, len(records), size)
    ]


def fold(learner: Learner, *some: TrainingBatch) -> int:
    return sum(learner.fold(batch, listens_of(batch, b"")) for batch in some)


class FinishedSession(NamedTuple):
    """The tracks of a session in order, and how much of each was heard."""

    tracks: NDArray[np.int64]
    fractions: NDArray[np.float32]


@dataclass
class PlainLearner:
    """A fold of the whole training topic by nothing but the learner."""

    learner: Learner
    models: list[Model] = field(default_factory=list)
    paused: list[Model] = field(default_factory=list)
    """What pauses may have brought: snapshots of the last listen of any batch."""

    def after_a_pause(self) -> dict[str, Model]:
        return {model.name: model for model in sorted([*self.models, *self.paused], key=lambda one: one.version)}


def plain_learner(settings: Settings, without: Container[tuple[int, int]] = (), number: int = 0) -> PlainLearner:
    """Fold a shard's training batches, what cannot be read left out; `without` names (partition, offset) of listens."""
    topics, shard = Topics.of(settings), Shard(number, settings.learner_shards)
    tracks = read_events(settings, topics.catalogue, Track)
    plain = PlainLearner(Learner({track.track: track for track in tracks}, shard=shard))
    for message in read_topic(settings, topics.training.name):
        if message.partition() != number:
            continue
        try:
            batch = CODEC.decode(message.value(), TrainingBatch)
            listens = listens_of(batch, message.value())
        except RejectedMessageError:
            continue
        offsets = (listens.offsets + np.int64(batch.first_offset)).tolist()
        kept = [(batch.source_partition, offset) not in without for offset in offsets]
        listens = TrainingColumns(*(getattr(listens, column.name)[kept] for column in fields(listens)))
        plain.learner.fold(batch, listens, message.timestamp()[1])
        plain.models += plain.learner.take_models()
        plain.paused += plain.learner.newest()
    return plain


def all_learned(settings: Settings) -> bool:
    """Say whether all listens are folded by workers, and all they gave rise to by a learner."""
    namespace, shards = learner_namespace(settings), range(settings.learner_shards)
    with closing(connect(settings)) as redis:
        reached = next_offsets(redis, namespace, shards)
    # the training topic is asked last: a worker writes to it before its checkpoint moves
    return all_folded(settings)() and reached == end_offsets(settings, Topics.of(settings).training.name)


def learned(settings: Settings, number: int = 0) -> tuple[dict[bytes, bytes], dict[str, Model]]:
    """Return the state and the snapshots of a shard in Redis."""
    namespace = learner_namespace(settings)
    with closing(connect(settings)) as redis:
        state, snapshots = (redis.hgetall(partition_key(namespace, number, of)) for of in (LEARNER, SNAPSHOTS))
    return state, {name.decode(): CODEC.decode(value, Model) for name, value in snapshots.items()}


def assert_learned(settings: Settings, number: int = 0) -> PlainLearner:
    """Compare a shard's state and its snapshots, on the topic and in Redis, with those of a plain fold."""
    plain = plain_learner(settings, number=number)
    newest = {model.name: model for model in plain.models}
    assert learned(settings, number) == (plain.learner.state(), newest)
    # they are sent at least once: copies are the same
    published = read_events(settings, Topics.of(settings).models, Model)
    sent = [model for model in published if model.name in newest]
    due = set(plain.models)
    assert [model for model in dict.fromkeys(sent) if model in due] == plain.models
    assert set(sent) <= due | set(plain.paused)
    assert all(model.version >= newest[model.name].version for model in {one.name: one for one in sent}.values())
    return plain


def publish_learned(settings: Settings, tracks: Sequence[Track], version: int = 1_000) -> None:
    """Publish a snapshot of every model, learned from sessions in which all of the tracks are liked."""
    rng = np.random.default_rng(version)
    ids, affinities = np.array([track.track for track in tracks]), np.ones(len(tracks), dtype=np.float32)
    sessions = [FinishedSession(rng.permutation(ids), affinities) for _ in range(20)]
    models = [kind({track.track: track for track in tracks}) for kind in MODELS]
    for model in models:
        learn_sessions(model, sessions)
    publish_models(settings, CODEC, [model_of(model.name, version, model.snapshot(), 0) for model in models])


def random_listens(count: int, seed: int, users: int, tracks: int) -> TrainingColumns:
    rng, numbers = np.random.default_rng(seed), np.arange(count)
    ended = rng.random(count) < 0.1
    sessions = np.cumsum(rng.random(count) < 0.02).astype(np.uint64)  # some begin without an end
    heard, fractions = rng.integers(0, tracks, count).astype(np.int32), rng.random(count, dtype=np.float32)
    whose, served = rng.integers(0, users, count), rng.random(count) < 0.5
    fractions[rng.random(count) < 0.2] = 1
    times_ms = (numbers + 1) * 1_000
    numbers, shown = numbers.astype(np.uint32), np.zeros(count, dtype=np.bool_)
    return TrainingColumns(numbers, whose, heard, fractions, times_ms, sessions, ended, served, shown)


def random_sessions(count: int, seed: int, tracks: int = 40) -> list[FinishedSession]:
    rng = np.random.default_rng(seed)
    return [
        FinishedSession(rng.integers(0, tracks, size=size), rng.random(size, dtype=np.float32))
        for size in rng.integers(1, 12, size=count)
    ]


def learn_sessions(model: OnlineModel, sessions: Sequence[FinishedSession]) -> None:
    model.learn_listens(listens_of_sessions(sessions))


def listens_of_sessions(sessions: Sequence[FinishedSession]) -> TrainingColumns:
    """Return the listens of one session after another, each of a listener of its own, who ends it."""
    lengths = np.array([len(session.tracks) for session in sessions])
    total = int(lengths.sum())
    ended = np.zeros(total, dtype=np.bool_)
    ended[np.cumsum(lengths) - 1] = True
    return TrainingColumns(
        np.arange(total, dtype=np.uint32),
        np.repeat(np.arange(len(sessions)), lengths),
        np.concatenate([session.tracks for session in sessions]).astype(np.int32),
        np.concatenate([session.fractions for session in sessions]).astype(np.float32),
        np.arange(1, total + 1) * 1_000,
        np.repeat(np.arange(len(sessions)), lengths).astype(np.uint64),
        ended,
        np.arange(total) % 3 == 1,
        np.zeros(total, dtype=np.bool_),
    )


def learner_namespace(settings: Settings) -> str:
    with closing(connect(settings)) as redis:
        return StateReader(redis, settings.with_(topic_prefix=learner_prefix(settings.topic_prefix))).namespace
