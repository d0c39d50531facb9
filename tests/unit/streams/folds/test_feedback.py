"""Invariant: opinions are a function of what was said since the last erasure, in any order, copies and batches."""

from __future__ import annotations

import asyncio
import random

from hypothesis import given
from hypothesis import strategies as st

from botify.core.kafka.reader import LogRecord
from botify.schemas.codec import Codec
from botify.schemas.events import OPINION_KINDS, Feedback
from botify.schemas.validation import ERASURE, Intake
from botify.streams.folds import feedback
from botify.streams.folds.feedback import OPINIONS, Said, merged, read_said, with_said
from botify.streams.store.protocol import MemoryStore
from botify.streams.verify import OfflineFold
from botify.streams.worker.folding import by_feedback

CODEC = Codec()
SAID = st.tuples(st.integers(0, 9), st.integers(0, 7), st.sampled_from(OPINION_KINDS))


@given(st.lists(SAID), st.randoms(use_true_random=False), st.integers(1, 9))
def test_no_order_and_no_copy_makes_a_difference(said: list[Said], draw: random.Random, most: int) -> None:
    newest: dict[int, Said] = {}
    for one in said:
        newest[one[1]] = max(newest.get(one[1], one), one)
    other = [*said, *draw.sample(said, len(said) // 2)]
    draw.shuffle(other)
    cut = draw.randrange(len(other) + 1)
    kept, feedback.MOST_OPINIONS = feedback.MOST_OPINIONS, most
    try:
        expected = sorted(newest.values())[-most:]
        assert merged([], said) == expected
        assert read_said(with_said(with_said(b"", other[:cut]), other[cut:])) == expected
    finally:
        feedback.MOST_OPINIONS = kept


def folded(records: list[LogRecord], draw: random.Random) -> tuple[MemoryStore, int]:
    """Fold in batches of any size, with listeners forgotten by memory."""
    offline = OfflineFold(0, Intake(CODEC), (), folding=by_feedback)

    async def fold() -> None:
        begin = 0
        while begin < len(records):
            end = begin + draw.randrange(1, 30)
            await offline.advance(records[begin:end])
            begin = end

    asyncio.run(fold())
    return offline.store, offline.counters.dead_letters


def test_an_erasure_lies_between_what_was_said_before_it_and_after_it() -> None:
    draw = random.Random(5)
    records, expected, hostile = [], {}, 0
    for offset in range(2_000):
        user, headers, value = draw.randrange(300), (), None
        kind = draw.random()
        if kind < 0.05:
            headers = ((ERASURE, b""),)
            expected.pop(user, None)
        elif kind < 0.1:
            hostile += 1
            value = draw.choice([None, b"\xff", CODEC.encode(Feedback("x", user, 3, "adore", 1))])
        else:
            one = (draw.randrange(1_000), draw.randrange(20), draw.choice(OPINION_KINDS))
            value = CODEC.encode(Feedback(f"e{offset}", user, one[1], one[2], one[0]))
            expected[user] = merged(expected.get(user, []), [one])
        records.append(LogRecord("feedback", 0, offset, 0, b"%d" % user, value, headers))
    for seed in (1, 2):
        store, dead_letters = folded(records, random.Random(seed))
        found = {int(user): read_said(record) for user, record in store.hashes[0, OPINIONS].items()}
        assert found == expected
        assert dead_letters == hostile
