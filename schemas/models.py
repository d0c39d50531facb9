"""Snapshots of models on their topic: made, published, and followed while serving.

Compaction keeps the last snapshot of each name, and readers use the last one too, so a reader that has just started
agrees with all others.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from confluent_kafka import Message

from core.errors import BotifyError, DecodeError, TopicError
from core.kafka.admin import end_offsets
from core.kafka.publisher import RecordPublisher
from core.kafka.reader import FOLLOW_MS, AssignedConsumer
from core.settings import Settings
from schemas.codec import Codec
from schemas.events import Model
from schemas.topics import MAX_MODEL_BYTES, Topics

log = logging.getLogger(__name__)

T = TypeVar("T")

ENVELOPE_BYTES = 64 * 1024
"""Room in a record for all but the body."""
MAX_BODY_BYTES = MAX_MODEL_BYTES - ENVELOPE_BYTES
TIMEOUT_S = 30.0
POLL_S = 0.5


def model_of(name: str, version: int, body: bytes, timestamp_ms: int) -> Model:
    """Return a snapshot with its digest.

    Raises
    ------
    TopicError
        The body is too large for a record.

    Examples
    --------
    >>> model_of("neighbours", 100, b"...", 1_700_000_000_000).digest[:8]
    'ab5df625'
    """
    if len(body) > MAX_BODY_BYTES:
        raise TopicError(
            f"model {name!r} has {len(body):,} bytes, a record of the models topic {MAX_MODEL_BYTES:,}; make it smaller"
        )
    return Model(name, version, body, hashlib.sha256(body).hexdigest(), timestamp_ms)


def publish_models(settings: Settings, codec: Codec, models: Iterable[Model]) -> None:
    """Publish models, and return when all are acknowledged. At least once: a copy replaces its equal.

    Raises
    ------
    PublishError
        A broker refused one, or did not answer.
    """
    topic = Topics.of(settings).models.name
    publisher = RecordPublisher(settings, message_max_bytes=MAX_MODEL_BYTES)
    for model in models:
        publisher.send(topic, codec.encode(model), model.name.encode())
    publisher.flush(TIMEOUT_S)


class ModelHandle(Generic[T]):
    """The newest model of one name, ready for use.

    Attributes
    ----------
    current : T or None
        The result of `prepare`; None before the first. Assigned by the reader's thread: read it once into a variable.
    version : int
        Of `current`; -1 before the first.
    published_s : float
        When the record of `current` was produced, in seconds since the epoch; 0 before the first.
    offset, newest_offset : int
        Of the record of `current`, and of the newest of the name; -1 before the first. They differ if the newest
        snapshot could not be used.
    """

    def __init__(self, prepare: Callable[[Model], T]) -> None:
        self._prepare = prepare
        self.current: T | None = None
        self.version = -1
        self.published_s = 0.0
        self.offset = self.newest_offset = -1

    def take(self, model: Model, offset: int, published_s: float) -> None:
        """Prepare a snapshot and make it `current`."""
        self.current = self._prepare(model)
        self.version, self.published_s, self.offset = model.version, published_s, offset


class ModelReader:
    """Follows the models topic in a thread of its own, so that serving never waits for a model.

    Nothing is committed: every reader reads every model. An unusable snapshot is skipped with a warning, and the one
    before it stays in use.

    Parameters
    ----------
    settings : Settings
    codec : Codec
    """

    def __init__(self, settings: Settings, codec: Codec) -> None:
        self._settings = settings
        self._codec = codec
        self._topic = Topics.of(settings).models.name
        self._followed: dict[str, list[ModelHandle[Any]]] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="models", daemon=True)
        self._consumer = AssignedConsumer(
            settings, self._topic, {0: 0}, group="botify-models", enable_partition_eof=True, fetch_wait_max_ms=FOLLOW_MS
        )

    def follow(self, name: str, prepare: Callable[[Model], T]) -> ModelHandle[T]:
        """Keep a model up to date; called before `start`.

        Parameters
        ----------
        name : str
        prepare : callable of Model
            Converts a snapshot for its user, in the reader's thread.
        """
        followed = ModelHandle(prepare)
        self._followed.setdefault(name, []).append(followed)
        return followed

    def on_topic(self) -> list[tuple[str, ModelHandle[Any]]]:
        """Return a handle of each followed model that has a snapshot, by name."""
        return [(name, one) for name, all_of in self._followed.items() for one in all_of[:1] if one.newest_offset >= 0]

    def start(self) -> None:
        """Read to the topic's end, then continue in the background.

        Raises
        ------
        TopicError
            The topic is missing, or the broker stops answering.
        """
        self.refresh()
        self._thread.start()

    def refresh(self) -> None:
        """Read to the topic's end; after `start` a thread does so.

        Raises
        ------
        TopicError
            The topic is missing, or the broker stops answering.
        """
        end = {0: end_offsets(self._settings, self._topic)[0]}
        for messages in self._consumer.poll_until(end, most=1, wait_s=POLL_S):
            for message in messages:
                self._take(message)

    def close(self) -> None:
        """Stop the thread and close the consumer."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._consumer.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                for message in self._consumer.poll(1, POLL_S):
                    self._take(message)
            except TopicError as error:
                log.error("%s; the current models stay in use", error)  # noqa: TRY400 - the message says it all
                self._stopping.wait(POLL_S)
            except Exception:  # the thread must not end unnoticed
                log.exception("%s cannot be read at the moment; the current models stay in use", self._topic)
                self._stopping.wait(POLL_S)

    def _take(self, message: Message) -> None:
        name = message.key().decode(errors="replace")  # a compacted topic has no record without a key
        followers = self._followed.get(name)
        if not followers or message.value() is None:  # a tombstone does not remove a model that is in use
            return
        for followed in followers:
            followed.newest_offset = message.offset()
        try:
            model = self._decoded(message.value())
            for followed in followers:
                followed.take(model, message.offset(), message.timestamp()[1] / 1000)
        except (BotifyError, ValueError) as error:
            log.warning("%s offset %d is skipped: %s", self._topic, message.offset(), error)
        except Exception:  # the thread must continue: the next snapshot may be usable
            log.exception("%s offset %d is skipped", self._topic, message.offset())

    def _decoded(self, raw: bytes) -> Model:
        model = self._codec.decode(raw, Model)
        if hashlib.sha256(model.body).hexdigest() != model.digest:
            raise DecodeError(f"the body of model {model.name!r} does not have its digest", raw)
        return model
