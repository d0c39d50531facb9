"""Invariant: opinions and names are functions of what was said since the last erasure, in any order and batches."""

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botify.core.kafka.reader import LogRecord
from botify.schemas.codec import Codec
from botify.schemas.events import NAMED, OPINION_KINDS, Feedback, Listen
from botify.schemas.validation import ERASURE, Intake
from botify.streams.folds import feedback
from botify.streams.folds.feedback import NAMES, OPINIONS, Said, merged, read_name, read_said, with_said
from botify.streams.folds.partition import FORMER_HASHES
from botify.streams.folds.sessions import OPEN_SESSIONS, OpenSession, policy_of
from botify.streams.store.protocol import MemoryStore
from botify.streams.verify import OfflineFold
from botify.streams.worker.folding import by_feedback
from tests.unit.streams.folds.driving import PARTITION, Driven
from tests.unit.streams.folds.oracles import records_of

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
    records, expected, called, hostile = [], {}, {}, 0
    for offset in range(2_000):
        user, headers, value = draw.randrange(300), (), None
        kind = draw.random()
        if kind < 0.05:
            headers = ((ERASURE, b""),)
            expected.pop(user, None)
            called.pop(user, None)
        elif kind < 0.1:
            hostile += 1
            wrong = (
                Feedback("x", user, 3, "adore", 1),
                Feedback("x", user, 0, NAMED, 1),
                Feedback("x", user, 0, NAMED, 1, ""),
            )
            value = draw.choice([None, b"\xff", *map(CODEC.encode, wrong)])
        elif kind < 0.3:
            named = draw.randrange(1_000), draw.choice(["a", "ö", "z" * 200])
            value = CODEC.encode(Feedback(f"e{offset}", user, 0, NAMED, *named))
            called[user] = min(called.get(user, named), named)
        else:
            one = (draw.randrange(1_000), draw.randrange(20), draw.choice(OPINION_KINDS))
            value = CODEC.encode(Feedback(f"e{offset}", user, one[1], one[2], one[0]))
            expected[user] = merged(expected.get(user, []), [one])
        records.append(LogRecord("feedback", 0, offset, 0, b"%d" % user, value, headers))
    for seed in (1, 2):
        store, dead_letters = folded(records, random.Random(seed))
        found = {int(user): read_said(record) for user, record in store.hashes[0, OPINIONS].items()}
        assert found == expected
        names = {int(user): read_name(record) for user, record in store.hashes[0, NAMES].items()}
        assert names == {user: name for user, (_, name) in called.items()}
        assert dead_letters == hostile


def heard_of(user: int, at: int, fraction: float, *, ended: bool, by: str | None, policy: str | None = None) -> Listen:
    return Listen(f"{user}-{at}", user, at, fraction, at, f"s{user}", at, ended, by, {}, None, None, policy)


@pytest.mark.parametrize(
    ("by", "policy", "name"),
    [
        (None, None, ""),
        ("fism", None, "fism"),
        ("mix", "fism", "mix/fism"),
        ("a", "a", "a"),
        ("mix", "memory/random", "mix/memory"),
    ],
)
def test_a_policy_is_the_recommender_and_its_choice(by: str | None, policy: str | None, name: str) -> None:
    assert policy_of(heard_of(1, 0, 1.0, ended=False, by=by, policy=policy)) == name


def test_a_session_has_the_policy_of_its_first_answer() -> None:
    driven = Driven()
    listens = [
        heard_of(1, 0, 1.0, ended=False, by=None),
        heard_of(1, 1, 0.5, ended=False, by="mix", policy="fism"),
        heard_of(2, 0, 1.0, ended=False, by=None),  # nobody recommended anything
        heard_of(1, 2, 0.25, ended=False, by="mix", policy="memory"),
        heard_of(3, 0, 1.0, ended=False, by="random"),
    ]
    driven.take(records_of(listens[:3]))
    of_earlier_version = driven.store.hashes[PARTITION, FORMER_HASHES[0]]
    of_earlier_version[b"mix/fism"] = bytes(16)
    driven.restart()
    driven.take([(100 + at, listen) for at, listen in enumerate(listens[3:])])
    fields = driven.store.hashes[PARTITION, OPEN_SESSIONS]
    policies = {user: OpenSession.from_bytes(fields[b"%d" % user]).policy for user in (1, 2, 3)}
    assert policies == {1: "mix/fism", 2: "", 3: "random"}
    assert of_earlier_version == {b"mix/fism": bytes(16)}
