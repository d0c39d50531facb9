"""Verification and digests against states that differ in one item."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from botify.core.kafka.config import key_of
from botify.core.kafka.reader import LogRecord
from botify.schemas.codec import Codec
from botify.schemas.events import Listen
from botify.schemas.validation import Intake
from botify.streams.folds.feedback import OPINIONS, with_said
from botify.streams.folds.partition import HASHES, SCORE_SETS
from botify.streams.store.protocol import MemoryStore
from botify.streams.store.redis_store import digest, have_same_items
from botify.streams.verify import FIRST_DIFFERENCES, Difference, OfflineFold, Report, compare


def records(count: int) -> list[LogRecord]:
    codec, made = Codec(), []
    for at in range(count):
        user, ended = at % 7, at % 10 == 9
        listen = Listen(f"a:{at}", user, at % 11, 0.5, 1000 * at, f"s{user}", at, ended, "random", {}, 0.1, 4.0)
        made.append(LogRecord("t", 0, at, 1000 * at, key_of(user), codec.encode(listen), ()))
    return made


def folded(batches: list[list[LogRecord]], **rejected: dict[int, set[int]]) -> OfflineFold:
    offline = OfflineFold(0, Intake(Codec(), range(11), lambda: None, **rejected))

    async def go() -> None:
        for batch in batches:
            await offline.advance(batch)

    asyncio.run(go())
    return offline


@pytest.fixture
def store() -> MemoryStore:
    store = folded([records(100)]).store
    store.hashes[0, OPINIONS] = {b"7": with_said(b"", [(1, 7, "like")])}  # in another namespace, with the same code
    return store


def test_the_batches_make_no_difference(store: MemoryStore) -> None:
    every = records(100)
    other = folded([every[:1], every[1:37], every[37:]]).store
    other.hashes[0, OPINIONS] = store.hashes[0, OPINIONS]
    assert asyncio.run(digest(store, 0)) == asyncio.run(digest(other, 0))


def test_what_was_dead_lettered_stays_out(store: MemoryStore) -> None:
    offline = folded([records(100)], rejected_before={0: {5, 50}})
    assert (offline.counters.listens, offline.counters.dead_letters) == (98, 2)
    assert asyncio.run(digest(offline.store, 0)) != asyncio.run(digest(store, 0))


@pytest.mark.parametrize("collection", [*HASHES, *SCORE_SETS])
def test_one_changed_item_changes_its_digest_and_no_other(store: MemoryStore, collection: str) -> None:
    before, other = asyncio.run(digest(store, 0)), copy.deepcopy(store)
    items = other.hashes[0, collection] if collection in HASHES else other.scores[0, collection]
    item = min(items)
    items[item] = items[item] + (b"\0" if collection in HASHES else 1e-9)  # type: ignore[operator]
    after = asyncio.run(digest(other, 0))
    assert [name for name in before if before[name] != after[name]] == [collection]


@pytest.mark.parametrize("collection", [*HASHES, *SCORE_SETS])
def test_states_that_differ_in_one_item_are_not_equal(store: MemoryStore, collection: str) -> None:
    def equal(other: MemoryStore) -> list[bool]:
        return [asyncio.run(have_same_items(*pair, 0)) for pair in ((store, other), (other, store))]

    assert equal(copy.deepcopy(store)) == [True, True]
    for renamed in (True, False):
        other = copy.deepcopy(store)
        items: Any = other.hashes[0, collection] if collection in HASHES else other.scores[0, collection]
        value = items.pop(min(items))
        if renamed:
            items[b"other"] = value
        assert equal(other) == [False, False]


def test_an_item_that_a_scan_returns_twice_counts_once() -> None:
    class Scanned(MemoryStore):
        async def hash_pages(self, partition: int, collection: str) -> AsyncIterator[Mapping[bytes, bytes]]:
            for _ in range(2):
                yield self.hashes[partition, collection]

    one, other = MemoryStore(), Scanned()
    one.hashes[0, "users"], other.hashes[0, "users"] = {b"1": b"a"}, {b"1": b"a"}
    assert asyncio.run(have_same_items(one, other, 0))
    assert asyncio.run(have_same_items(other, one, 0))


def test_a_value_that_moves_to_its_neighbour_is_seen() -> None:
    one, other = MemoryStore(), MemoryStore()
    one.hashes[0, "users"], other.hashes[0, "users"] = {b"1": b"a", b"11": b""}, {b"1": b"", b"11": b"a"}
    assert asyncio.run(digest(one, 0)) != asyncio.run(digest(other, 0))


def test_changed_missing_and_surplus_items_are_told_apart() -> None:
    found = MemoryStore()
    found.hashes[0, "users"] = {b"1": b"a", b"2": b"x", b"4": b"d"}
    expected = {b"1": b"a", b"2": b"b", b"3": b"c"}
    items, differences = asyncio.run(compare(0, "users", expected, found.hash_pages(0, "users")))
    assert items == 4
    assert differences == [
        Difference(0, "users", b"2", b"b", b"x"),
        Difference(0, "users", b"4", None, b"d"),
        Difference(0, "users", b"3", b"c", None),
    ]


def test_all_differences_are_counted_and_the_first_are_kept() -> None:
    report = Report("n")
    for partition in range(3):
        report.count("users", 10, [Difference(partition, "users", b"%d" % n, b"", None) for n in range(10)])
    assert (report.differing, len(report.differences), report.compared) == (30, FIRST_DIFFERENCES, {"users": 30})


def test_reports_on_several_partitions_add_up_to_the_one_on_all() -> None:
    whole, apart = Report("n"), Report("n")
    for partition in range(3):
        one = Report("n", {partition: 7 + partition}, listens=5, duplicates=2, dead_letters=1)
        for report in (one, whole):
            report.count("users", 10, [Difference(partition, "users", b"%d" % n, b"", None) for n in range(10)])
        apart.add(one)
    whole.checkpoints = {0: 7, 1: 8, 2: 9}
    whole.listens, whole.duplicates, whole.dead_letters = 15, 6, 3
    assert apart == whole
