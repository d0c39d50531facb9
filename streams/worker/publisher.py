"""What folding gives rise to, beside state: events for other topics, and dead letters.

What is sent out: sessions, training batches, models and dead letters; acknowledged before the checkpoint moves.

At least once: a worker that dies between the acknowledgement and the checkpoint sends them again. A session carries
an id that is the same every time, a training batch its offsets, a model its version; a dead letter says which record
it is. So a reader drops the copies.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from core.errors import PublishError
from core.kafka.config import key_of
from core.kafka.publisher import RecordPublisher
from core.settings import Settings
from schemas.codec import Codec
from schemas.dead_letters import dead_letter_headers
from schemas.events import Model, Session, TrainingBatch
from schemas.topics import MAX_MODEL_BYTES, Topics
from schemas.validation import Rejected

Publishable = Session | TrainingBatch | Model


class Publisher(Protocol):
    """Sends what a run gives rise to, and returns when it is acknowledged."""

    async def emit(self, events: Sequence[Publishable], rejected: Sequence[Rejected]) -> None:
        """Send all of it."""


log = logging.getLogger(__name__)

ACKNOWLEDGE_TIMEOUT_S = 30.0


class KafkaPublisher:
    """Sends and waits, in a thread of its own so that the worker folds other partitions meanwhile.

    What several partitions send while one is being waited for goes out together after it.

    Parameters
    ----------
    sessions_to : str, optional
        Another topic for the sessions.
    """

    def __init__(self, settings: Settings, codec: Codec, sessions_to: str | None = None) -> None:
        topics = Topics.of(settings)
        self._routes: dict[type[Publishable], tuple[str, Callable[[Any], bytes]]] = {
            Session: (sessions_to or topics.sessions.name, lambda session: key_of(session.user)),
            TrainingBatch: (topics.training.name, lambda batch: key_of(batch.source_partition)),
            Model: (topics.models.name, lambda model: model.name.encode()),
        }
        self._dead_letters = topics.dead_letters.name
        self._codec = codec
        # `flush` sends at once, whatever the linger: it only gathers what is still being produced into few requests
        self._publisher = RecordPublisher(settings, linger_ms=100, message_max_bytes=MAX_MODEL_BYTES)  # the largest
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="emitter")
        self._waiting: list[tuple[Sequence[Publishable], Sequence[Rejected], asyncio.Future[None]]] = []
        self._sending: asyncio.Task[None] | None = None

    async def emit(self, events: Sequence[Publishable], rejected: Sequence[Rejected]) -> None:
        """Send, and return when the brokers have acknowledged everything.

        Raises
        ------
        PublishError
            Something that was sent together was refused, or not acknowledged for `ACKNOWLEDGE_TIMEOUT_S`. The worker
            stops, and a new one continues from the checkpoint.
        """
        acknowledged: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((events, rejected, acknowledged))
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send_waiting(), name="emitter")
        await acknowledged

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown()

    async def _send_waiting(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            together, self._waiting = self._waiting, []
            events = [event for some, _, _ in together for event in some]
            rejected = [letter for _, some, _ in together for letter in some]
            error: PublishError | None = None
            try:
                await loop.run_in_executor(self._thread, self._send, events, rejected)
            except PublishError as failed:
                error = failed
            for _, _, acknowledged in together:
                if acknowledged.done():  # its partition was taken away, and its task with it
                    continue
                if error is None:
                    acknowledged.set_result(None)
                else:
                    acknowledged.set_exception(error)

    def _send(self, events: Sequence[Publishable], rejected: Sequence[Rejected]) -> None:
        for event in events:
            topic, key_of = self._routes[type(event)]
            self._publisher.send(topic, self._codec.encode(event), key_of(event))
        for letter in rejected:
            record = letter.record
            self._publisher.send(
                self._dead_letters,
                record.value,
                record.key,
                partition=record.partition,
                headers=dead_letter_headers(
                    record.topic, record.partition, record.offset, record.headers, letter.reason
                ),
            )
        self._publisher.flush(ACKNOWLEDGE_TIMEOUT_S)
        if rejected:
            first = rejected[0].record
            log.warning(
                "%d dead letters, the first: %s",
                len(rejected),
                rejected[0].reason,
                extra={"topic": first.topic, "partition": first.partition, "offset": first.offset},
            )
