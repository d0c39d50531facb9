"""Requesters read their own partition of the replies, share it with others, and move."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import pytest

from botify.core.kafka import replies
from botify.core.kafka.replies import ReplyReader
from botify.core.settings import Settings
from botify.schemas.topics import Topics
from tests.support import eventually, produce_raw

MANY = 300


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def requester(stack: ExitStack, settings: Settings, name: str, partition: int | None = None) -> ReplyReader:
    topic = Topics.of(settings).recommendations.name
    choose = {} if partition is None else {"choose": lambda among: partition if partition in among else among[0]}
    reader = ReplyReader(settings, topic, name.encode(), keep_s=0.5, group="test", fetch_wait_max_ms=20, **choose)
    stack.callback(reader.close)
    return reader


def reply(settings: Settings, partition: int, values: Sequence[bytes]) -> None:
    topic = Topics.of(settings).recommendations.name
    produce_raw(settings, topic, [(b"42", value) for value in values], partition=partition)


def received(readers: Sequence[ReplyReader], count: int) -> list[list[bytes]]:
    """Poll all until they have some replies together."""
    got: list[list[bytes]] = [[] for _ in readers]

    def poll() -> bool:
        for reader, values in zip(readers, got, strict=True):
            values += reader.poll(1000, 0.01)
        return sum(map(len, got)) >= count

    eventually(poll)
    return got


def test_more_requesters_than_partitions_get_what_is_theirs(settings: Settings, stack: ExitStack) -> None:
    names = [f"r{number:02d}-" for number in range(settings.partitions + 3)]
    readers = [requester(stack, settings, name) for name in names]
    for turn in range(2):
        for name, reader in zip(names, readers, strict=True):
            reply(settings, reader.partition, [f"{name}{turn}-{number}".encode() for number in range(5)])
    got = received(readers, len(names) * 10)
    for name, values in zip(names, got, strict=True):
        assert values == [f"{name}{turn}-{number}".encode() for turn in range(2) for number in range(5)]


def test_replies_before_and_after_a_move_arrive_once(
    settings: Settings, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replies, "WINDOW_S", 0.1)
    reader = requester(stack, settings, "me-", 0)
    got: list[bytes] = []
    sent: list[bytes] = []

    def ask(other: int) -> None:
        sent.append(b"me-%d" % len(sent))
        reply(settings, reader.partition, [b"you-"] * other + sent[-1:])
        got.extend(reader.poll(1000, 0.05))

    def moved() -> bool:
        ask(MANY)
        return reader.partition == 1

    eventually(moved)
    for _ in range(20):
        ask(0)
    reply(settings, 0, [b"you-"] * MANY)
    eventually(lambda: got.extend(reader.poll(1000, 0.05)) or len(got) >= len(sent), what=lambda: (got, sent))
    assert got == sent
    others = reader.others
    for _ in range(30):  # longer than the old partition is read
        assert reader.poll(1000, 0.05) == []
    reply(settings, 0, [b"you-"] * MANY)
    ask(0)
    eventually(lambda: got.extend(reader.poll(1000, 0.05)) or len(got) == len(sent))
    assert reader.others <= others + MANY  # what was in flight as it moved, and nothing of what came then
