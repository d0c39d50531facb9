"""How large the learner's newest snapshots are."""

from __future__ import annotations

from typing import Any

from schemas.models import MAX_BODY_BYTES
from schemas.settings import Settings
from services.dashboard.figures.snapshot import LearnedModel
from streams.learner.model import MODELS
from streams.learner.partition import SNAPSHOTS
from streams.read import StateReader
from streams.store.keys import learner_prefix, partition_key


class ModelsReader:
    """Asks Redis, where the last snapshots lie beside the learner's state; the bytes themselves are not read.

    Parameters
    ----------
    redis : redis.Redis or RedisCluster
        Blocking, with raw replies.
    """

    def __init__(self, settings: Settings, redis: Any) -> None:
        self._redis = redis
        self._learners = StateReader(redis, settings.with_(topic_prefix=learner_prefix(settings.topic_prefix)))

    def read(self) -> tuple[LearnedModel, ...]:
        """Return the models that have a snapshot."""
        key = partition_key(self._learners.namespace, 0, SNAPSHOTS)
        sizes = [(kind.name, self._redis.hstrlen(key, kind.name)) for kind in MODELS]
        return tuple(LearnedModel(name, size, size / MAX_BODY_BYTES) for name, size in sizes if size)

    def close(self) -> None:
        """Nothing is held."""
