"""Follows a small topic in the background, for what is read again and again while it changes."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

from confluent_kafka import Message

from botify.core.errors import TopicError
from botify.core.kafka.admin import end_offsets
from botify.core.kafka.reader import FOLLOW_MS, AssignedConsumer
from botify.core.pace import step_back
from botify.core.settings import Settings

log = logging.getLogger(__name__)

POLL_S = 0.5


class TopicFollower(ABC):
    """Follows a topic of one partition in a thread of its own, so that serving never waits for it.

    Nothing is committed: every follower reads everything. While the topic cannot be read, what was read stays in use.

    Parameters
    ----------
    name : str
        Of the thread; with `botify-` before it, of the reader in the broker's logs and access rules.
    otherwise : str
        What logs say after an error: what stays in use.
    batch : int
        How many records are taken at once at most.
    """

    def __init__(self, settings: Settings, topic: str, name: str, otherwise: str, batch: int) -> None:
        self._settings, self._topic = settings, topic
        self._otherwise, self._batch = otherwise, batch
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._consumer = AssignedConsumer(
            settings, topic, {0: 0}, group=f"botify-{name}", enable_partition_eof=True, fetch_wait_max_ms=FOLLOW_MS
        )

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
        """Read to the topic's end; after `start` a thread does so. Raises as `start`."""
        for messages in self._to_end():
            self._take(messages)

    def close(self) -> None:
        """Stop the thread and close the consumer."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._consumer.close()

    @abstractmethod
    def _take(self, messages: Sequence[Message]) -> None:
        """Use records that have arrived; a tombstone has no value."""

    def _to_end(self) -> Iterator[Sequence[Message]]:
        """Yield the records up to the topic's end as it is now."""
        end = {0: end_offsets(self._settings, self._topic)[0]}
        return self._consumer.poll_until(end, self._batch, POLL_S)

    def _run(self) -> None:
        step_back()
        while not self._stopping.is_set():
            try:
                self._take(self._consumer.poll(self._batch, POLL_S, gather_s=0.0))
            except TopicError as error:
                log.error("%s; %s", error, self._otherwise)  # noqa: TRY400 - the message says it all
                self._stopping.wait(POLL_S)
            except Exception:  # the thread must not end unnoticed
                log.exception("%s cannot be read at the moment; %s", self._topic, self._otherwise)
                self._stopping.wait(POLL_S)
