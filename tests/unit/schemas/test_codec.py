"""Invariant: what is encoded comes back equal, and no bytes at all raise anything but a DecodeError."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from botify.core.errors import DecodeError, SchemaError
from botify.schemas import codec as codec_module
from botify.schemas import columns
from botify.schemas.codec import HEADER_BYTES, Codec, load
from botify.schemas.events import Event, Listen, Model, Recommendation, RecommendationRequest, Track
from tests.unit.strategies import EVENTS, events

CODEC = Codec()
LISTEN = Listen("a:0", 42, 7, 0.5, 1_700_000_000_000, "a", 0, False, "mix", {"X": "T1"}, 0.01, 3.5, "memory", 200)
TRACK, MODEL = Track(7, "artist", "album", "rap", "title"), Model("neighbours", 3, b"body", "digest", 2)
ANSWER = Recommendation("a:0", 42, 7, "toppop", {"A": "T1"}, 0.1, 0, 1.0, 1000, "x", 10, None)
SCHEMAS = load()


@given(events)
def test_every_event_comes_back_equal(event: Any) -> None:
    assert CODEC.decode(CODEC.encode(event), type(event)) == event


@given(events)
def test_a_value_has_confluents_header_and_is_refused_with_its_bytes_unless_it_is_whole(event: Any) -> None:
    raw = CODEC.encode(event)
    assert raw[0] == 0
    assert int.from_bytes(raw[1:HEADER_BYTES], "big") in {one.id for one in SCHEMAS if one.event is type(event)}
    for wrong in (*(raw[:length] for length in range(len(raw))), raw + b"\0"):
        with pytest.raises(DecodeError, match="1 bytes left over" if len(wrong) > len(raw) else ".") as caught:
            CODEC.decode(wrong, type(event))
        assert caught.value.raw == wrong


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (None, "empty; a Listen was expected"),
        (b"", "empty; a Listen was expected"),
        (CODEC.encode(TRACK), "is a Track; a Listen was expected"),
        (b"\0" + (4711).to_bytes(4, "big") + b"x", "unknown schema id 4711"),
        (b'{"user": 1}', "no Confluent wire format"),
        (b"\0\0", "no Confluent wire format"),
        (b"\1\0\0\0\1", "no Confluent wire format"),
    ],
)
def test_what_is_no_listen_says_what_it_is(raw: bytes | None, why: str) -> None:
    with pytest.raises(DecodeError, match=why):
        CODEC.decode(raw, Listen)


@settings(max_examples=600)
@given(events, st.sampled_from([0, HEADER_BYTES]) | st.integers(0, 200), st.binary(max_size=60), st.booleans())
def test_a_value_with_bytes_overwritten_or_cut_raises_nothing_but_decode_errors(
    event: Any, at: int, patch: bytes, cut: bool
) -> None:
    good = CODEC.encode(event)
    at %= len(good)
    try:
        decoded = CODEC.decode(good[:at] + patch + (b"" if cut else good[at + len(patch) :]), type(event))
    except DecodeError:
        return
    assert isinstance(decoded, type(event))


@pytest.mark.parametrize("wrong", [{"user": "x"}, {"fraction": None}, {"treatments": 3}, {"user": 2**70}])
def test_a_field_of_a_wrong_type_cannot_be_encoded(wrong: dict[str, Any]) -> None:
    with pytest.raises(SchemaError, match="does not fit its schema"):
        CODEC.encode(LISTEN._replace(**wrong))


@pytest.mark.parametrize(
    ("old", "version"),
    [(LISTEN._replace(policy=None, candidates=None), 1), (TRACK, 1), (TRACK, 2), (MODEL, 1)],
)
def test_an_older_version_is_read_without_what_was_not_in_it(old: Any, version: int) -> None:
    older = Codec(schema for schema in SCHEMAS if schema.version <= (version if schema.event is type(old) else 1))
    assert CODEC.decode(older.encode(old), type(old)) == old


@pytest.fixture(autouse=True)
def few_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec_module, "PAYS_FROM", 1)
    monkeypatch.setattr(columns, "NUMPY_FROM", 1)


def encoded_or_why_not(encode: Callable[[], list[bytes]]) -> list[bytes] | str:
    try:
        return encode()
    except SchemaError as error:
        return str(error)


def assert_together_as_one_by_one(some: Sequence[Event]) -> None:
    one_by_one = encoded_or_why_not(lambda: [CODEC.encode(event) for event in some])
    assert encoded_or_why_not(lambda: CODEC.encode_many(some)) == one_by_one


@settings(max_examples=1_000)
@given(st.sampled_from([*EVENTS.values(), events]).flatmap(lambda kind: st.lists(kind, max_size=12)))
def test_events_of_one_class_or_of_several(some: list[Event]) -> None:
    assert_together_as_one_by_one(some)


values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=3),
    st.binary(max_size=3),
    st.just("\ud800"),
    st.dictionaries(st.text(max_size=2), st.none() | st.text(max_size=2), max_size=2),
    st.lists(st.integers(), max_size=2),
)


@given(st.sampled_from([LISTEN, ANSWER]), st.integers(0, 11), values, st.integers(0, 2))
def test_a_value_of_any_type_among_good_ones(event: Any, field: int, value: Any, at: int) -> None:
    some = [event] * 3
    some[at] = event._replace(**{event._fields[field]: value})
    assert_together_as_one_by_one(some)


NUMBERS = (0, -1, 63, 64, -64, -65, 8191, 8192, 2**20, 2**31, 2**62, 2**63 - 1, -(2**63))


@pytest.mark.parametrize(
    "event",
    [
        *(RecommendationRequest("a:0", number, "a", 0, number, 0.5, number, number) for number in NUMBERS),
        *(LISTEN._replace(event_id="é" * length) for length in (0, 63, 64, 8191, 8192, 20_000)),
    ],
)
def test_numbers_and_texts_at_the_ends_of_their_lengths(event: Event) -> None:
    assert CODEC.encode_many([event]) == [CODEC.encode(event)]


def test_columns_are_the_events_of_their_rows() -> None:
    for rest in ([ANSWER], [ANSWER._replace(ranking=[3, 4]), ANSWER._replace(policy=None, candidates=None)]):
        rows = [ANSWER, *rest]
        columns = list(zip(*rows, strict=True))
        assert CODEC.encode_columns(columns, Recommendation) == [CODEC.encode(row) for row in rows]
    with pytest.raises(SchemaError):
        CODEC.encode_columns(list(zip(ANSWER._replace(track="x"), strict=True)), Recommendation)  # type: ignore[arg-type]


def test_maps_that_change_between_two_events_are_written_as_they_are() -> None:
    shared = {"A": "T1"}
    first = CODEC.encode_many([LISTEN._replace(treatments=shared)] * 2)
    shared["A"] = "C"
    assert CODEC.encode_many([LISTEN._replace(treatments=shared)] * 2) != first
