"""A requester gets its own replies, and leaves a partition that is full of those to others."""

from collections.abc import Sequence
from typing import Any

import pytest

from botify.core.kafka import replies
from botify.core.kafka.replies import CROWDED_PER_S, LONGEST_WINDOW_S, WINDOW_S, ReplyReader
from botify.core.settings import Settings
from tests.support import FakeMessage

KEEP_S = 5.0
MANY = int(CROWDED_PER_S) * 2


class FakeConsumer:
    """Returns what a test puts there; a partition that was added is connected when the test says so."""

    def __init__(self, _: Settings, topic: str, start: dict[int, int], group: str) -> None:
        self.assigned = dict(start)
        self.waiting: list[bytes | None] = []
        self.connected = True

    def poll(self, most: int, wait_s: float, gather_s: float | None) -> list[FakeMessage]:
        some, self.waiting = self.waiting[:most], self.waiting[most:]
        return [FakeMessage(value=value) for value in some]

    def add(self, partition: int) -> None:
        self.assigned[partition] = -1
        self.connected = False

    def drop(self, partition: int) -> None:
        del self.assigned[partition]


class Harness:
    """A requester whose requests begin with `me`, on partitions 0, 1 and 2; it chooses the last one that it may."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, own: bytes = b"me", ends: Sequence[int] = (7, 8, 9)) -> None:
        monkeypatch.setattr(replies, "end_offsets", lambda _settings, _topic: dict(enumerate(ends)))
        self.now_s = 0.0
        self.reader = ReplyReader(
            Settings(), "replies", own, KEEP_S, "test", clock=lambda: self.now_s, choose=max, connect=self.connect
        )

    def connect(self, *arguments: Any) -> Any:
        self.consumer = FakeConsumer(*arguments)
        return self.consumer

    def poll(self, values: Sequence[bytes | None] = (), later_s: float = 0.0) -> list[bytes]:
        self.now_s += later_s
        self.consumer.waiting += values
        return self.reader.poll(10_000, 0.0)


@pytest.fixture
def h(monkeypatch: pytest.MonkeyPatch) -> Harness:
    return Harness(monkeypatch)


def test_it_gets_its_own_replies_only_and_counts_the_others(h: Harness) -> None:
    assert h.poll([b"you-1", b"me-1", None, b"me-2"]) == [b"me-1", b"me-2"]
    assert h.reader.others == 2


def test_without_a_mark_of_its_own_it_gets_all(monkeypatch: pytest.MonkeyPatch) -> None:
    h = Harness(monkeypatch, own=b"")
    assert h.poll([b"a", b"b"]) == [b"a", b"b"]


def test_it_says_whether_there_may_be_more(h: Harness) -> None:
    h.consumer.waiting = [b"you"] * 3
    assert h.reader.poll(2, 0.0) == []
    assert h.reader.has_more
    assert h.reader.poll(2, 0.0) == []
    assert not h.reader.has_more


def test_a_requester_among_many_replies_to_others_moves_and_reads_both_for_a_while(h: Harness) -> None:
    h.poll([b"you"] * MANY, WINDOW_S)
    assert (h.reader.partition, h.consumer.assigned) == (2, {2: 9, 1: -1})
    h.poll([], 10.0)
    assert h.reader.partition == 2  # replies to a request that named 1 could be missed
    assert h.reader.listening
    h.consumer.connected = True
    h.poll()
    assert (h.reader.partition, h.consumer.assigned) == (1, {2: 9, 1: -1})
    assert h.poll([b"me-1"], KEEP_S - 0.1) == [b"me-1"]
    assert 2 in h.consumer.assigned
    h.poll([], 0.1)
    assert h.consumer.assigned == {1: -1}


@pytest.mark.parametrize(
    ("own", "others"), [(0, CROWDED_PER_S * WINDOW_S), (MANY, MANY)], ids=["few", "no more than its own"]
)
def test_it_stays_where_most_replies_are_its_own_or_there_are_few(h: Harness, own: int, others: float) -> None:
    h.poll([b"me"] * own + [b"you"] * int(others), WINDOW_S)
    assert h.consumer.assigned == {2: 9}


def move(h: Harness, after_s: float) -> bool:
    """Let it move if it wants to, after some time on a crowded partition."""
    before = h.reader.partition
    h.poll([b"you"] * int(MANY * after_s), after_s)
    h.consumer.connected = True
    h.poll()
    if h.reader.partition == before:
        return False
    h.poll([], KEEP_S)
    return True


def test_where_all_partitions_are_crowded_it_moves_ever_less_often(h: Harness) -> None:
    window_s = WINDOW_S
    while window_s <= LONGEST_WINDOW_S:
        assert not move(h, window_s / 2)
        assert move(h, window_s / 2)
        window_s *= 2
    assert not move(h, LONGEST_WINDOW_S / 2)
    assert move(h, LONGEST_WINDOW_S / 2)


def test_a_quiet_window_makes_it_quick_again(h: Harness) -> None:
    assert move(h, WINDOW_S)
    h.poll([], 2 * WINDOW_S)
    assert move(h, WINDOW_S)


def test_on_the_only_partition_it_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    h = Harness(monkeypatch, ends=[7])
    assert h.poll([b"you"] * MANY, WINDOW_S) == []
    assert (h.reader.partition, h.consumer.assigned) == (0, {0: 7})
