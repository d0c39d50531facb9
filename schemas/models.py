"""Snapshots of models on their topic: made, published, and followed while serving.

A small one is one record, a large one comes in parts (`schemas/model_parts.py`).

Compaction keeps the last snapshot of each name, and readers use the last one too, so a reader that has just started
agrees with all others.
"""

import hashlib
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, Generic, NamedTuple, TypeVar

from confluent_kafka import Message

from botify.core.errors import BotifyError, DecodeError, TopicError
from botify.core.kafka.publisher import RecordPublisher
from botify.core.kafka.reader import POLL_S, TopicFollower
from botify.core.settings import Settings
from botify.core.throttle import throttled
from botify.schemas.codec import Codec
from botify.schemas.events import Model
from botify.schemas.model_parts import ModelParts, ModelPublisher, name_and_part
from botify.schemas.topics import MAX_MODEL_BYTES, Topics
from botify.schemas.training import ALONE, model_and_shard

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_BODY_BYTES = 256 * 1024 * 1024
"""Of any model. A reader has a body and the next one in files, and in memory what it makes of them."""
LEARNED_BODY_BYTES = 16 * 1024 * 1024 - 64 * 1024  # of the learner's, without `Settings.model_mb`
TIMEOUT_S = 30.0
MOST_WAITING = 1_000  # records that a reader takes at most before it serves the newest of them
REST, MOST_REST_S = 2.0, 30.0  # how many times as long as it takes to prepare what came the reader rests, and at most


def learned_body_bytes(settings: Settings) -> int:
    """Return the size of the largest snapshot that the learner makes.

    Examples
    --------
    >>> learned_body_bytes(Settings()) == LEARNED_BODY_BYTES, learned_body_bytes(Settings(model_mb=64))
    (True, 67043328)
    """
    return settings.model_mb * 1024 * 1024 - 64 * 1024


def model_of(name: str, version: int, body: bytes, timestamp_ms: int) -> Model:
    """Return a snapshot with its digest; raises `TopicError` if the body is too large."""
    if len(body) > MAX_BODY_BYTES:
        raise TopicError(
            f"model {name!r} has {len(body):,} bytes, and at most {MAX_BODY_BYTES:,} are served; make it smaller"
        )
    return Model(name, version, body, hashlib.sha256(body).hexdigest(), timestamp_ms)


def label_of(model: Model) -> str:
    """Return what answers call a snapshot: its version, and 16 digits of its digest.

    Examples
    --------
    >>> label_of(model_of("fism", 5000, b"", 0))
    '5000:e3b0c44298fc1c14'
    """
    return f"{model.version}:{model.digest[:16]}"


def publish_models(settings: Settings, codec: Codec, models: Iterable[Model]) -> None:
    """Publish models, at least once; raises `PublishError` if a broker refused one, `TopicError` if it cannot read."""
    publisher = RecordPublisher(settings, message_max_bytes=MAX_MODEL_BYTES)
    parts = ModelPublisher(settings, codec, publisher)
    for model in models:
        parts.send(model)
    publisher.flush(TIMEOUT_S)


class ModelHandle(Generic[T]):
    """The newest model of one name, ready for use.

    `current` is the result of `prepare`, None before the first. The reader's thread assigns it: read it once into a
    variable. `served` is `current` with its `label_of`, assigned together. `version` is that of `current`, `offset` and
    `published_s` (seconds since the epoch) those of its record. `newest_offset` is that of the newest record of the
    name, which differs if that one could not be used.
    """

    def __init__(self, prepare: Callable[[Model], T], swapping: threading.Lock) -> None:
        self._prepare, self._swapping = prepare, swapping
        self.served: tuple[T, str] | None = None
        self.version = -1
        self.published_s = 0.0
        self.offset = self.newest_offset = -1

    @property
    def current(self) -> T | None:
        served = self.served
        return None if served is None else served[0]

    def take(self, model: Model, offset: int, published_s: float) -> None:
        """Prepare a snapshot and make it `current`."""
        served = self._prepare(model), label_of(model)
        with self._swapping:
            self.served = served
            self.version, self.published_s, self.offset = model.version, published_s, offset


class _Arrived(NamedTuple):
    """A model, the offset of its record, and when that was published."""

    model: Model
    offset: int
    published_s: float


Merge = Callable[[Sequence[bytes]], bytes]  # body of a model from its shards'; ValueError: they are unusable


class _Shards:
    """The newest snapshot of each shard of a model, by the number of shards; they are complete or serve nothing."""

    def __init__(self, merge: Merge) -> None:
        self._merge = merge
        self._kept: dict[int, dict[int, _Arrived]] = {}

    def forget(self) -> None:
        """Forget all, because the model came whole: it is newer."""
        self._kept.clear()

    def kept(self) -> dict[int, dict[int, _Arrived]]:
        """Return what is kept, for `restore`."""
        return {count: dict(kept) for count, kept in self._kept.items()}

    def restore(self, kept: Mapping[int, Mapping[int, _Arrived]]) -> None:
        """Keep what was kept before snapshots came that cannot be used."""
        self._kept = {count: dict(some) for count, some in kept.items()}

    def take(self, arrived: Iterable[_Arrived]) -> int:
        """Take snapshots in order; return the number of shards that is complete now, the newest one, or 0."""
        complete = 0
        for one in arrived:
            shard = model_and_shard(one.model.name)[1]
            kept = self._kept.setdefault(shard.of, {})
            kept[shard.number] = one
            if len(kept) == shard.of:
                complete = shard.of
                self._kept = {complete: kept}  # what came before with another number is replaced
        return complete

    def newest_offset(self, count: int) -> int:
        return max(one.offset for one in self._kept[count].values())

    def whole(self, name: str, count: int) -> _Arrived:
        """Return the model of complete shards: as new as the newest, and as old as the oldest of them."""
        kept = [self._kept[count][number] for number in range(count)]
        body = self._merge([one.model.body for one in kept])
        version, timestamp_ms = sum(one.model.version for one in kept), max(one.model.timestamp_ms for one in kept)
        model = Model(name, version, body, hashlib.sha256(body).hexdigest(), timestamp_ms)
        return _Arrived(model, self.newest_offset(count), min(one.published_s for one in kept))


class ModelReader(TopicFollower):
    """Follows the models topic. An unusable snapshot is skipped with a warning, and the one before it stays in use.

    A model of several shards is served when all shards have published a snapshot, and again with each one that follows.
    Who holds `swapping` for as long as an answer takes makes it from one snapshot of each model, those that are
    `in_use`.
    """

    def __init__(self, settings: Settings, codec: Codec) -> None:
        topic = Topics.of(settings).models.name
        super().__init__(settings, topic, "models", "the current models stay in use", batch=1)
        self._codec = codec
        self.swapping = threading.Lock()
        self._followed: dict[str, list[ModelHandle[Any]]] = {}
        self._parts = ModelParts()
        self._shards: dict[str, _Shards] = {}

    def follow(self, name: str, prepare: Callable[[Model], T], merge: Merge | None = None) -> ModelHandle[T]:
        """Keep a model up to date; called before `start`.

        `prepare` converts a snapshot for its user, in the reader's thread. `merge` makes one body of those of several
        shards; without it, shards are not followed.
        """
        followed = ModelHandle(prepare, self.swapping)
        if merge is not None:
            self._shards.setdefault(name, _Shards(merge))
        self._followed.setdefault(name, []).append(followed)
        return followed

    def on_topic(self) -> list[tuple[str, ModelHandle[Any]]]:
        """Return a handle of each followed model that has a snapshot, by name."""
        return [(name, one) for name, all_of in self._followed.items() for one in all_of[:1] if one.newest_offset >= 0]

    def in_use(self) -> dict[str, str]:
        """Return the label of each model that is served now, and of earlier snapshots that have a part in one."""
        found: dict[str, str] = {}
        for name, followed in self.on_topic():
            if (served := followed.served) is not None:
                found[name] = served[1]
                found |= getattr(served[0], "made_of", {})
        return found

    def refresh(self) -> None:
        """Read to the topic's end; after `start` a thread does so. Raises as `start`."""
        self._serve_newest(chain.from_iterable(self._to_end()))

    def _take(self, messages: Sequence[Message]) -> None:
        """Serve the newest of each model of all records that have come, so that what is served is not behind them."""
        with throttled(REST, MOST_REST_S, self._stopping):
            self._serve_newest(chain(messages, chain.from_iterable(islice(self._waiting(), MOST_WAITING))))

    def _waiting(self) -> Iterator[Sequence[Message]]:
        while self._consumer.is_behind:
            yield self._consumer.poll(1, POLL_S, gather_s=0.0)

    def _serve_newest(self, messages: Iterable[Message]) -> None:
        """Prepare the last snapshot of each model, or the one before it if that cannot be used."""
        newest: dict[str, dict[str, list[_Arrived]]] = {}
        for message in messages:
            if (arrived := self._read(message)) is not None:
                name = arrived.model.name
                of_model = newest.setdefault(model_and_shard(name)[0], {})
                of_model[name] = [*of_model.get(name, [])[-1:], arrived]
        for model, last_two_of in newest.items():
            self._serve_newest_of(model, last_two_of.pop(model, []), list(last_two_of.values()))

    def _serve_newest_of(self, model: str, whole: Sequence[_Arrived], shards: Sequence[Sequence[_Arrived]]) -> None:
        """Serve the newest of a model: it came whole, or in shards, of each of which there are one or two snapshots."""
        if whole and model in self._shards:
            self._shards[model].forget()
            shards = [last_two for last_two in shards if last_two[-1].offset > whole[-1].offset]
        if shards and self._serve_shards(model, shards):
            return
        if whole and not self._serve(whole[-1]) and len(whole) > 1:
            self._serve(whole[0])

    def _serve_shards(self, model: str, arrived: Sequence[Sequence[_Arrived]]) -> bool:
        """Merge the shards of a model, if all have come, and serve it; False if it cannot be used."""
        shards = self._shards[model]
        before = shards.kept()
        for at in (-1, 0):
            newest = sorted((last_two[at] for last_two in arrived), key=lambda one: one.offset)
            count = shards.take(newest)
            if not count:
                return False
            for followed in self._followed[model]:
                followed.newest_offset = max(followed.newest_offset, shards.newest_offset(count))
            try:
                whole = shards.whole(model, count)
            except ValueError as error:
                log.warning(
                    "%s: the shards of %s at offset %d are skipped: %s", self._topic, model, newest[-1].offset, error
                )
            else:
                if self._serve(whole):
                    return True
            shards.restore(before)
        return False

    def _read(self, message: Message) -> _Arrived | None:
        """Return the model of a record; None for a part, for one that is not followed, and for one without a model."""
        name, part = name_and_part(message.key())  # a compacted topic has no record without a key
        model, shard = model_and_shard(name)
        followers = self._followed.get(model) if shard == ALONE or model in self._shards else None
        if not followers or (message.value() is None and not part):  # a model in use is not removed by a tombstone
            return None
        if not part and shard == ALONE:
            for followed in followers:
                followed.newest_offset = message.offset()
        try:
            if part:
                content = None if message.value() is None else self._codec.decode(message.value(), Model).body
                self._parts.take(name, part, content)
                return None
            return _Arrived(self._decoded(message.value()), message.offset(), message.timestamp()[1] / 1000)
        except (BotifyError, ValueError) as error:
            log.warning("%s offset %d is skipped: %s", self._topic, message.offset(), error)
            for followed in followers if not part else ():
                followed.newest_offset = message.offset()
        return None

    def _serve(self, arrived: _Arrived) -> bool:
        """Prepare a model for those who follow it; False if it cannot be used."""
        try:
            for followed in self._followed[arrived.model.name]:
                followed.take(*arrived)
        except (BotifyError, ValueError) as error:
            log.warning("%s offset %d is skipped: %s", self._topic, arrived.offset, error)
        except Exception:  # the thread must continue: the next snapshot may be usable
            log.exception("%s offset %d is skipped", self._topic, arrived.offset)
        else:
            self._parts.release()
            return True
        return False

    def _decoded(self, raw: bytes) -> Model:
        model = self._codec.decode(raw, Model)
        if model.parts is not None:
            return self._parts.whole(model)
        self._parts.forget(model.name)
        if hashlib.sha256(model.body).hexdigest() != model.digest:
            raise DecodeError(f"the body of model {model.name!r} does not have its digest", raw)
        return model
