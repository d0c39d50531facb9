"""Invariant: listens read together are what each would be by itself, errors included, whatever the bytes."""

from collections.abc import Sequence
from typing import Any

import mmh3
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from botify.core.errors import DecodeError
from botify.schemas import codec as codec_module
from botify.schemas.codec import HEADER_BYTES, Codec, load
from botify.schemas.columns import MAX_ENTRIES, ColumnReader
from botify.schemas.events import Listen, Track
from botify.schemas.listen_kernels import first_rows, hash_of
from tests.unit.strategies import EVENTS

CODEC = Codec()
LISTEN = Listen("a:0", 42, 7, 0.5, 1_700_000_000_000, "a", 0, False, "mix", {"X": "T1"}, 0.01, 3.5, "memory", 200)
HEADER = CODEC.encode(LISTEN)[:HEADER_BYTES]


@pytest.fixture(autouse=True)
def few_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec_module, "TOGETHER", 0)


def decoded(raw: bytes | None) -> Listen | DecodeError:
    try:
        return CODEC.decode(raw, Listen)
    except DecodeError as error:
        return error


def assert_equal(values: Sequence[bytes | None]) -> None:
    """Compare what the listens are together with what each is by itself."""
    for one, expected in zip(CODEC.decode_many(values, Listen), map(decoded, values), strict=True):
        # as text: a fraction that is not a number differs from itself, and 1 equals True
        assert repr(one) == repr(expected)
        assert isinstance(one, Listen) or one.raw == getattr(expected, "raw", None)


@settings(max_examples=1_000)
@given(st.sampled_from(list(EVENTS)).flatmap(lambda event: st.lists(EVENTS[event], max_size=20)))
def test_good_events(some: list[Any]) -> None:
    for event in {type(one) for one in some}:  # one, or none
        assert CODEC.decode_many([CODEC.encode(one) for one in some], event) == some


@settings(max_examples=300)
@given(st.lists(st.binary(max_size=60), max_size=8), st.booleans())
def test_rubbish_between_good_ones(bodies: list[bytes], has_header: bool) -> None:
    assert_equal([value for body in bodies for value in (HEADER + body if has_header else body, CODEC.encode(LISTEN))])


@settings(max_examples=500)
@given(EVENTS[Listen], st.integers(0, 10**6), st.binary(min_size=1, max_size=12))
def test_bytes_overwritten(event: Listen, at: int, patch: bytes) -> None:
    raw, good = CODEC.encode(event), CODEC.encode(LISTEN)
    at %= len(raw)
    assert_equal([good, raw[:at] + patch + raw[at + len(patch) :], good])


def test_every_byte_changed_and_every_cut() -> None:
    raw = CODEC.encode(LISTEN)
    cut = [raw[:length] for length in range(len(raw) + 1)]
    changed = [raw[:at] + bytes([byte]) + raw[at + 1 :] for at in range(len(raw)) for byte in range(256)]
    before, after = raw.split(b"\x54", 1)  # the user, 42 in zigzag
    longer = before + b"\x80" * 9 + after  # a listen, if a number could not be longer
    assert_equal([None, *cut, *changed, raw + b"\0", longer])


def test_an_older_version_and_another_event_in_between() -> None:
    track = CODEC.encode(Track(7, "artist", None, None, "title"))
    old, older = LISTEN._replace(policy=None, candidates=None), Codec(one for one in load() if one.version == 1)
    assert_equal([CODEC.encode(LISTEN), older.encode(old), track, None, CODEC.encode(old)])


def test_a_map_whose_block_says_its_size() -> None:
    sized, empty = (
        CODEC.encode(LISTEN).replace(b"\x02\x02X\x04T1\x00", block)
        for block in (b"\x01\x0a\x02X\x04T1\x00", b"\x01\x00")
    )
    assert CODEC.decode(sized, Listen) == LISTEN
    assert_equal([sized, empty])


def test_what_a_service_writes_is_read_in_columns() -> None:
    plain = LISTEN._replace(recommender=None, treatments={}, propensity=None, latency_ms=None, policy=None)
    many = LISTEN._replace(treatments={f"E{n}": "T1" for n in range(MAX_ENTRIES)})
    assert CODEC.read_columns([CODEC.encode(event) for event in (LISTEN, plain, many)], Listen)[1].all()


def test_a_schema_with_another_type_is_refused() -> None:
    with pytest.raises(NotImplementedError, match="enum"):
        ColumnReader(HEADER, {"fields": [{"name": "x", "type": {"type": "enum", "symbols": ["a"]}}]})


CAUSES = st.none() | st.sampled_from(["", "mix", "mi", "x"])


@pytest.mark.parametrize("size", range(1, 70))
def test_ids_of_any_length_have_the_hash_of_mmh3(size: int) -> None:
    id_ = bytes((size * 37 + at * 101) % 256 for at in range(size))
    raw = np.frombuffer(b"before" + id_ + b"after", np.uint8)
    assert int(hash_of(raw, 6, 6 + size)) == int.from_bytes(mmh3.hash_bytes(id_)[:8], "little")


@given(st.lists(st.tuples(CAUSES, CAUSES, st.booleans()), max_size=40))
def test_rows_of_one_cause_have_the_first_of_them(rows: list[tuple[str | None, str | None, bool]]) -> None:
    raw, places = b"", np.zeros((2, len(rows), 2), dtype=np.int64)
    for at, row in enumerate(rows):
        for which, text in enumerate(row[:2]):
            places[which, at] = len(raw), -1 if text is None else len(text)
            raw += (text or "").encode()
    good = np.array([row[2] for row in rows], dtype=np.bool_)
    firsts = np.empty(len(rows), dtype=np.int64)
    first_rows(np.frombuffer(raw, np.uint8), places[0], places[1], good, firsts)
    known: dict[tuple[str | None, str | None], int] = {}
    assert firsts.tolist() == [known.setdefault(row[:2], at) if row[2] else -1 for at, row in enumerate(rows)]
