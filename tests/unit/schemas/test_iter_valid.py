"""Invariant: what the worker would make a dead letter of is left out, and nothing else."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from botify.core.kafka.config import key_of
from botify.schemas import codec as codec_module
from botify.schemas.codec import Codec
from botify.schemas.events import Listen, Session
from botify.schemas.validation import iter_valid

CODEC = Codec()
LISTEN = Listen("a:0", 42, 7, 0.5, 1_000, "a", 0, False, None, {}, None, None)


class Message(NamedTuple):
    """What is used of `confluent_kafka.Message`."""

    raw_key: bytes | None
    raw: bytes | None
    at: int = 0

    def key(self) -> bytes | None:
        return self.raw_key

    def value(self) -> bytes | None:
        return self.raw

    def partition(self) -> int:
        return 3

    def offset(self) -> int:
        return self.at


@pytest.mark.parametrize("together", [0, 100])
def test_what_cannot_be_read_or_cannot_be_true_is_left_out(together: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec_module, "TOGETHER", together)
    first, last = (Message(key_of(42), CODEC.encode(LISTEN._replace(event_id=name))) for name in ("a:1", "a:2"))
    bad = (
        Message(key_of(42), None),
        Message(key_of(42), b"rubbish"),
        Message(key_of(42), CODEC.encode(LISTEN._replace(fraction=7.0))),
        Message(key_of(43), CODEC.encode(LISTEN)),
    )
    messages: Any = [first, *bad, last]
    assert [(message, listen.event_id) for message, listen in iter_valid(messages, Listen, CODEC)] == [
        (first, "a:1"),
        (last, "a:2"),
    ]


def test_what_we_made_ourselves_need_not_have_a_listeners_key() -> None:
    session = Session("0-1", "a", 42, 1, 2, 3, 1.5, "end")
    messages: Any = [Message(None, CODEC.encode(session))]
    assert [event for _, event in iter_valid(messages, Session, CODEC)] == [session]


def test_dead_letters_of_the_topic_are_left_out() -> None:
    messages: Any = [Message(key_of(42), CODEC.encode(LISTEN), at) for at in range(3)]
    assert [message.at for message, _ in iter_valid(messages, Listen, CODEC, {3: {1}, 0: {2}})] == [0, 2]
