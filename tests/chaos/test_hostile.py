"""Thousands of messages that nobody should have sent, among ten times as many good ones; any codec, any headers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from botify.core.errors import RejectedMessageError
from botify.core.kafka.config import key_of
from botify.core.kafka.headers import headers_of
from botify.core.settings import Settings
from botify.schemas.codec import Codec
from botify.schemas.dead_letters import origin_of
from botify.schemas.events import Listen, RecommendationRequest, Session, Track
from botify.schemas.topics import Topics
from botify.schemas.validation import check
from tests.chaos.conftest import TRACKS, StartWorker
from tests.chaos.whole import assert_whole, caught_up
from tests.hostile import CODECS, HEADERS, Raw, flipped, keyed_batches, produce_batches
from tests.support import eventually, make_listens, read_topic

GOOD = 40_000
HOSTILE = 4_000
USERS = 2_000
BATCH = 500
SMALL_HEADERS = [headers for headers in HEADERS if sum(len(name) + len(value or b"") for name, value in headers) < 500]

KeyAndValue = tuple[bytes | None, bytes | None]

IMPOSSIBLE: list[dict[str, object]] = [
    {"fraction": float("nan")},
    {"fraction": float("inf")},
    {"fraction": -1e308},
    {"fraction": 1.0000000000000002},
    {"user": -1},
    {"user": 2**63 - 1},
    {"track": -(2**63)},
    {"track": 2**40},
    {"track": TRACKS},
    {"timestamp_ms": -1},
    {"timestamp_ms": 2**63 - 1},
    {"position": -(2**31)},
    {"session_id": ""},
    {"session_id": "é" * 200},
    {"event_id": ""},
    {"event_id": "x" * 100_000},
]


def hostile(good: list[Listen], rng: np.random.Generator) -> Iterator[KeyAndValue]:
    """Yield bad messages of every kind for ever; those that turn out to be good are left out."""
    codec = Codec()
    strangers = [
        codec.encode(Track(1, "artist", None, None, "title")),
        codec.encode(Session("0-1", "s", 1, 0, 1, 1, 0.5, "end")),
        codec.encode(RecommendationRequest("r", 1, "s", 0, 1, 0.5, 0, 1)),
    ]
    while True:
        listen = good[int(rng.integers(len(good)))]
        key, valid = key_of(listen.user), codec.encode(listen)
        impossible = listen._replace(**IMPOSSIBLE[int(rng.integers(len(IMPOSSIBLE)))])
        candidates: list[KeyAndValue] = [
            (key, rng.bytes(int(rng.integers(1, 300)))),
            (key, valid[:5] + rng.bytes(int(rng.integers(1, 300)))),
            (key, flipped(valid, rng)),
            (key, valid[: int(rng.integers(len(valid)))]),
            (key, valid + b"\0"),
            (key, strangers[int(rng.integers(len(strangers)))]),
            (key_of(impossible.user), codec.encode(impossible)),
            (key_of(listen.user + 1), valid),
            (None, valid),
            (rng.bytes(1_000), valid),
            (key, b""),
            (key, None),
        ]
        raw = candidates[int(rng.integers(len(candidates)))]
        if is_bad(codec, raw):
            yield raw


def is_bad(codec: Codec, raw: KeyAndValue) -> bool:
    """Say whether a message cannot enter: some flipped bits make another listen that can be true."""
    key, value = raw
    try:
        listen = codec.decode(value, Listen)
        check(listen, key, value or b"")
    except RejectedMessageError:
        return True
    return listen.track >= TRACKS


def test_every_bad_message_is_set_aside_once_and_no_good_one_is_lost(
    settings: Settings, start_worker: StartWorker
) -> None:
    rng, codec, topics = np.random.default_rng(65), Codec(), Topics.of(settings)
    good = make_listens(GOOD, USERS, TRACKS, seed=66)
    records: list[KeyAndValue] = [(key_of(listen.user), codec.encode(listen)) for listen in good]
    bad = hostile(good, rng)
    for place in np.sort(rng.integers(GOOD, size=HOSTILE))[::-1].tolist():
        records.insert(place, next(bad))
    worker = start_worker("worker")
    eventually(lambda: worker.claimed)
    raw = [
        Raw(key, value, choice[(at + at // 1_000) % len(choice)])
        for at, (key, value) in enumerate(records)
        for choice in [SMALL_HEADERS if at % 1_000 else HEADERS]
    ]
    batches = [
        one
        for number, at in enumerate(range(0, len(raw), BATCH))
        for one in keyed_batches(raw[at : at + BATCH], settings.partitions, number % len(CODECS))
    ]
    assert set(produce_batches(settings, topics.listens.name, batches)) == {0}
    caught_up(settings)
    fold = assert_whole(settings, GOOD)
    letters = read_topic(settings, topics.dead_letters.name)
    assert len(letters) == HOSTILE
    origins = {origin_of(headers_of(letter)) for letter in letters}
    assert len(origins) == HOSTILE
    assert {(origin.partition, origin.offset) for origin in origins if origin} == {
        (rejected.record.partition, rejected.record.offset) for rejected in fold.rejected
    }
    assert sorted(letter.value() or b"" for letter in letters) == sorted(
        rejected.record.value or b"" for rejected in fold.rejected
    )
    assert worker.running
    assert worker.stop() == 0
    assert worker.counter("dead_letters") == HOSTILE
