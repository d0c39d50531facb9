"""What a learner left, and what a plain fold of the training topic gives."""

from __future__ import annotations

from dataclasses import dataclass, field

from schemas.codec import Codec
from schemas.errors import RejectedMessageError
from schemas.events import Model, Track, TrainingBatch
from schemas.settings import Settings
from schemas.topics import Topics
from schemas.training import listens_of
from streams.learner.learner import Learner
from streams.learner.partition import LEARNER
from streams.store.connect import connect
from streams.store.keys import checkpoint_key, default_namespace, learner_prefix, partition_key
from tests.support import read_topic

CODEC = Codec()


@dataclass
class PlainLearner:
    """A fold of the whole training topic by nothing but the learner."""

    learner: Learner
    models: list[Model] = field(default_factory=list)


def plain_learner(settings: Settings) -> PlainLearner:
    """Fold the training topic, what cannot be read left out."""
    topics = Topics.of(settings)
    tracks = [CODEC.decode(m.value(), Track) for m in read_topic(settings, topics.catalogue.name)]
    plain = PlainLearner(Learner({track.track: track for track in tracks}))
    for message in read_topic(settings, topics.training.name):
        try:
            batch = CODEC.decode(message.value(), TrainingBatch)
            listens = listens_of(batch, message.value())
        except RejectedMessageError:
            continue
        plain.learner.fold(batch, listens)
        plain.models += plain.learner.take_models()
    return plain


def learner_state(settings: Settings) -> dict[bytes, bytes]:
    """Return the fields that the learner has written."""
    redis = connect(settings)
    try:
        found: dict[bytes, bytes] = redis.hgetall(partition_key(_namespace(settings), 0, LEARNER))
    finally:
        redis.close()
    return found


def learner_checkpoint(settings: Settings) -> int:
    """Return the offset of the training topic up to which the learner's state goes."""
    redis = connect(settings)
    try:
        return int(redis.hget(checkpoint_key(_namespace(settings), 0), "next_offset") or 0)
    finally:
        redis.close()


def published(settings: Settings) -> list[Model]:
    """Return all snapshots on the models topic, copies included."""
    return [CODEC.decode(m.value(), Model) for m in read_topic(settings, Topics.of(settings).models.name)]


def _namespace(settings: Settings) -> str:
    return default_namespace(learner_prefix(settings.topic_prefix))
