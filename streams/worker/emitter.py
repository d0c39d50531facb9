"""What a worker sends out: closed sessions and dead letters, acknowledged before the checkpoint moves.

At least once: a worker that dies between the acknowledgement and the checkpoint sends them again. A session carries
an id that is the same every time; a dead letter says which record it is, so a reader drops the copies.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from schemas import clients
from schemas.codec import Codec
from schemas.dead_letters import MAX_BYTES, dead_letter_headers
from schemas.errors import BotifyError
from schemas.events import Session
from schemas.settings import Settings
from schemas.topics import Topics
from streams.worker.intake import Rejected

log = logging.getLogger(__name__)

ACKNOWLEDGE_TIMEOUT_S = 30.0


class EmitError(BotifyError):
    """Something that had to be sent was not acknowledged; the worker stops, and goes on from its checkpoint."""


class Emitter:
    """Sends and waits, in a thread of its own so that the worker folds other partitions meanwhile."""

    def __init__(self, settings: Settings, codec: Codec) -> None:
        topics = Topics.of(settings)
        self._sessions = topics.sessions.name
        self._dead_letters = topics.dead_letters.name
        self._codec = codec
        # `flush` sends at once, whatever the linger: it only gathers what is still being produced into few requests
        self._producer = Producer(clients.producer_config(settings, linger_ms=100, message_max_bytes=MAX_BYTES))
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="emitter")

    async def emit(self, sessions: Sequence[Session], rejected: Sequence[Rejected]) -> None:
        """Send, and return when the brokers have acknowledged everything.

        Raises
        ------
        EmitError
            Something was refused, or nothing was heard for `ACKNOWLEDGE_TIMEOUT_S`.
        """
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._emit, sessions, rejected)

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown()

    def _emit(self, sessions: Sequence[Session], rejected: Sequence[Rejected]) -> None:
        refused: list[KafkaError] = []

        def on_delivery(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                refused.append(error)

        try:
            for session in sessions:
                self._produce(
                    on_delivery,
                    topic=self._sessions,
                    key=clients.key_of(session.user),
                    value=self._codec.encode(session),
                )
            for letter in rejected:
                record = letter.record
                self._produce(
                    on_delivery,
                    topic=self._dead_letters,
                    key=record.key,
                    value=record.value,
                    partition=record.partition,
                    headers=dead_letter_headers(
                        record.topic, record.partition, record.offset, record.headers, letter.reason
                    ),
                )
        except KafkaException as error:
            raise EmitError(f"not sent: {error}") from error
        unheard = self._producer.flush(ACKNOWLEDGE_TIMEOUT_S)
        if refused or unheard:
            why = refused[0].str() if refused else f"no answer in {ACKNOWLEDGE_TIMEOUT_S:.0f} s"
            raise EmitError(f"{len(refused) + unheard} sessions or dead letters were not acknowledged: {why}")
        if rejected:
            first = rejected[0].record
            log.warning(
                "%d dead letters, the first: %s",
                len(rejected),
                rejected[0].reason,
                extra={"topic": first.topic, "partition": first.partition, "offset": first.offset},
            )

    def _produce(self, on_delivery: object, **message: object) -> None:
        """Produce; where the queue is full, let it drain first."""
        while True:
            try:
                self._producer.produce(on_delivery=on_delivery, **message)
            except BufferError:
                self._producer.poll(0.05)
            else:
                return
