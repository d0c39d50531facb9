"""Erase a listener: nothing of the past listens stays in state, and no replay, model or export has them again.

    tombstone on listens ──► letters for the listens before it ──► the worker passes it ──► tombstone on feedback

A tombstone has the listener's key, no value, and a header of its own. On the listens it lies in the listener's own
partition, so that every worker and replay removes the listener between the listens before it and those after it; who
has the listener in memory cannot write the state back. The letters keep the listens out of every later fold and model.
What the worker made of them (sessions) is on its topics by the time of the tombstone on the feedback, which tells
exports until when records of the listener are left out.

The topics themselves keep the records, because offsets never change.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from confluent_kafka import KafkaError, Message

from botify.core.errors import BotifyError
from botify.core.kafka.config import key_of, partition_of
from botify.core.kafka.layout import live_layout
from botify.core.kafka.publisher import RecordPublisher
from botify.core.settings import Settings
from botify.schemas.topics import Topics
from botify.schemas.validation import ERASURE
from botify.streams.dlq.exclude import exclude_erased

PASS_S = 600.0
"""How long the worker may take to reach a tombstone, such as while it is restarted; after that the erasure fails."""
POLL_S = 0.05


class ErasureError(BotifyError):
    """A listener is not erased yet; the erasure can be asked for again."""


def erase_listener(
    settings: Settings, user: int, checkpoint: Callable[[int], int | None], known: Callable[[], bool] = lambda: True
) -> int:
    """Erase a listener, and return the number of listens; a second time, it erases what came since. Blocks.

    Parameters
    ----------
    checkpoint : callable
        Returns the next offset that a partition's worker will fold; None if the partition has no state.
    known : callable
        Says whether there may be listens that were folded and not yet erased: if not, none of them is read.

    Raises
    ------
    ErasureError
        Kafka took not all of it, or the worker is not running or too far behind.
    DeadLetterError
        As `exclude`.
    """
    settings = live_layout(settings)
    topics, partition = Topics.of(settings), partition_of(user, settings.partitions)
    begin = checkpoint(partition) or 0  # asked before the state: of what is before it, the state has something
    begin = 0 if known() else begin
    offset = _tombstone(settings, topics.listens.name, user)
    done = exclude_erased(settings, {partition: {user: offset}}, begin)
    give_up = time.monotonic() + PASS_S
    while (reached := checkpoint(partition)) is not None and reached <= offset:
        if time.monotonic() > give_up:
            raise ErasureError(
                f"the worker has folded partition {partition} up to offset {reached}, and the erasure is at {offset}: "
                "it takes effect when the worker reaches it; ask for it again"
            )
        time.sleep(POLL_S)
    _tombstone(settings, topics.feedback.name, user)
    return done.count + done.already


def _tombstone(settings: Settings, topic: str, user: int) -> int:
    """Publish a tombstone, and return its offset."""
    offsets: list[int] = []

    def on_delivery(error: KafkaError | None, message: Message) -> None:
        if error is None:
            offsets.append(message.offset())

    publisher = RecordPublisher(settings, delivery_report_only_error=False)
    publisher.produce(topic, key=key_of(user), value=None, headers=[(ERASURE, b"")], on_delivery=on_delivery)
    publisher.drain()
    if not offsets:
        raise ErasureError(f"{topic} did not take the erasure; ask for it again")
    return offsets[0]
