"""The listens that entered: what the worker makes a dead letter of counts nowhere on the dashboard either."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from confluent_kafka import Message

from schemas.codec import Codec
from schemas.errors import RejectedMessageError
from schemas.events import Listen
from schemas.validation import check


def entered(messages: Iterable[Message], codec: Codec) -> Iterator[Listen]:
    """Yield the listens of these records, in their order, without those that cannot be read or cannot be true."""
    for message in messages:
        raw = message.value()
        try:
            listen = codec.decode(raw, Listen)
            check(listen, message.key(), raw)
        except RejectedMessageError:
            continue
        yield listen
