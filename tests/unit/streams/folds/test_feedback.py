"""Invariant: the state is a function of what was told since the last erasure, in any order, copies and batches."""

import asyncio
import random
import struct
from typing import TypeVar
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botify.schemas.events import DESCRIBED, NAMED, OPINION_KINDS, SHOWN, Feedback
from botify.schemas.validation import ERASURE, Intake
from botify.streams.folds import feedback
from botify.streams.folds.feedback import (
    ATTRIBUTES,
    NAMES,
    OPINIONS,
    Said,
    read_said,
    read_shown,
    with_said,
    with_shown,
)
from botify.streams.folds.sessions import OPEN_SESSIONS, OpenSession, policy_of
from botify.streams.verify import OfflineFold
from botify.streams.worker.folding import by_feedback
from tests.unit.streams.folds.oracles import PARTITION, drive
from tests.unit.streams.worker.records import CODEC, KafkaRecord, listen, parts

T = TypeVar("T")
KINDS = (*OPINION_KINDS, "save", "un-save", "purchase")
SAID = st.tuples(st.integers(0, 9), st.integers(0, 7), st.sampled_from(KINDS))
IMPRESSION = st.tuples(st.integers(0, 9), st.integers(0, 4))
GROUPS = {"save": "save", "un-save": "save", "purchase": "purchase"}  # all others are opinions


def in_disorder(told: list[T], draw: random.Random) -> tuple[list[T], list[T]]:
    """Return all in another order, with copies of some, cut in two."""
    other = [*told, *draw.sample(told, len(told) // 2)]
    draw.shuffle(other)
    cut = draw.randrange(len(other) + 1)
    return other[:cut], other[cut:]


@given(st.lists(SAID), st.randoms(use_true_random=False), st.integers(1, 9))
def test_no_order_and_no_copy_makes_a_difference(said: list[Said], draw: random.Random, most: int) -> None:
    newest: dict[tuple[int, str], Said] = {}
    for one in said:
        of = one[1], GROUPS.get(one[2], "opinion")
        newest[of] = max(newest.get(of, one), one)
    expected, (first, second) = sorted(newest.values())[-most:], in_disorder(said, draw)
    with mock.patch.object(feedback, "MOST_OPINIONS", most):
        assert feedback.merged([], said) == expected
        assert read_said(with_said(with_said(b"", first), second)) == expected


@given(st.lists(IMPRESSION, max_size=60), st.randoms(use_true_random=False), st.integers(1, 12))
def test_of_what_was_shown_the_last_three_times_are_kept(
    seen: list[tuple[int, int]], draw: random.Random, most: int
) -> None:
    of_track = {track: sorted({time for time, one in seen if one == track})[-3:] for _, track in seen}
    expected = sorted((time, track) for track, times in of_track.items() for time in times)
    first, second = in_disorder(seen, draw)
    with mock.patch.object(feedback, "MOST_SHOWN", most):
        record = with_shown(with_shown(b"", first), second)
    assert read_shown(record).tolist() == expected[-most:]
    if len(expected) <= most:
        often = {(track, times[0], times[-1]) for track, times in of_track.items() if len(times) == 3}
        assert {*feedback.shown_often(read_shown(record))} == often


def test_likes_and_dislikes_are_written_as_before() -> None:
    said = [(1, 7, "like"), (2, 8, "unlike"), (3, 9, "dislike")]
    record = b"\x01" + b"".join(struct.pack("<qiB", time, track, OPINION_KINDS.index(k)) for time, track, k in said)
    assert read_said(record) == said
    assert with_said(b"", said) == record
    assert read_said(with_said(record, [(4, 7, "save")])) == [*said, (4, 7, "save")]
    many = [(at, at, f"kind-{at}") for at in range(400)]  # more than a byte counts
    assert read_said(with_said(b"", many)) == many
    for read in (read_said, read_shown):
        with pytest.raises(ValueError, match="version 9"):
            read(b"\x09")


def written(attributes: dict[str, str]) -> str:
    return ",".join(f'"{name}":"{value}"' for name, value in sorted(attributes.items())) + "}"


def test_an_erasure_lies_between_what_was_said_before_it_and_after_it() -> None:
    draw = random.Random(5)
    records, hostile = [], 0
    expected: dict[int, list[Said]] = {}
    shown: dict[int, bytes] = {}
    called: dict[int, tuple[int, str]] = {}
    described: dict[int, tuple[int, dict[str, str]]] = {}
    for offset in range(2_000):
        user, headers, value = draw.randrange(300), (), None
        kind = draw.random()
        if kind < 0.05:
            headers = ((ERASURE, b""),)
            for known in (expected, shown, called, described):
                known.pop(user, None)
        elif kind < 0.1:
            hostile += 1
            wrong = ("Adore", None), ("", None), ("k" * 33, None), ("shown", None), ("shown", []), ("shown", [1, -1])
            facts = [Feedback("x", user, 3, kind, 1, None, tracks) for kind, tracks in wrong]
            facts += [Feedback("x", user, 0, NAMED, 1, name) for name in (None, "")]
            bad = None, {"Country": "de"}, {"country": ""}, {"c": "x" * 65}, {f"a{at}": "x" for at in range(17)}
            facts += [Feedback("x", user, 0, DESCRIBED, 1, attributes=one) for one in bad]
            value = draw.choice([None, b"\xff", *map(CODEC.encode, facts)])
        elif kind < 0.2:
            seen = [draw.randrange(20) for _ in range(5)]
            value = CODEC.encode(Feedback(f"e{offset}", user, 0, "shown", offset, tracks=seen))
            shown[user] = with_shown(shown.get(user, b""), [(offset, track) for track in seen])
        elif kind < 0.3:
            named = draw.randrange(1_000), draw.choice(["a", "ö", "z" * 200])
            value = CODEC.encode(Feedback(f"e{offset}", user, 0, NAMED, *named))
            called[user] = min(called.get(user, named), named)
        elif kind < 0.4:
            told = draw.randrange(1_000), draw.choice([{}, {"country": "de"}, {"platform": "tv", "language": "ö"}])
            value = CODEC.encode(Feedback(f"e{offset}", user, 0, DESCRIBED, told[0], attributes=told[1]))
            described[user] = max(described.get(user, told), told, key=lambda one: (one[0], written(one[1])))
        else:
            one = (draw.randrange(1_000), draw.randrange(20), draw.choice(KINDS))
            value = CODEC.encode(Feedback(f"e{offset}", user, one[1], one[2], one[0]))
            expected[user] = feedback.merged(expected.get(user, []), [one])
        records.append(KafkaRecord(offset, b"%d" % user, value, headers=headers))
    for seed in (1, 2):
        offline = OfflineFold(0, Intake(CODEC), (), folding=by_feedback)
        for part in parts(records, random.Random(seed).sample(range(len(records)), len(records) // 15)):
            asyncio.run(offline.advance(part))
        for name, read, wanted in (
            (OPINIONS, read_said, expected),
            (NAMES, feedback.read_name, {user: name for user, (_, name) in called.items()}),
            (SHOWN, bytes, shown),
            (ATTRIBUTES, feedback.read_attributes, described),
        ):
            assert {int(user): read(record) for user, record in offline.store.hashes[0, name].items()} == wanted
        assert offline.counters.dead_letters == hostile


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
    assert policy_of(by, policy) == name


def test_a_session_has_the_policy_of_its_first_answer() -> None:
    answered = [(1, None, None), (1, "mix", "fism"), (2, None, None), (1, "mix", "memory"), (3, "random", None)]
    records = [
        (at, listen(f"e{at}", user)._replace(recommender=by, policy=policy))
        for at, (user, by, policy) in enumerate(answered)
    ]
    opened = drive([records[:3], records[3:]], restarts=True).store.hashes[PARTITION, OPEN_SESSIONS]
    policies = {user: OpenSession.from_bytes(opened[b"%d" % user]).policy for user in (1, 2, 3)}
    assert policies == {1: "mix/fism", 2: "", 3: "random"}  # the second heard nothing that was recommended
