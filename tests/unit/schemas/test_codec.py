"""Invariant: what is encoded comes back equal, and no bytes at all raise anything but a DecodeError."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from botify.core.errors import DecodeError, SchemaError
from botify.schemas import codec as codec_module
from botify.schemas import columns
from botify.schemas.codec import HEADER_BYTES, Codec, load
from botify.schemas.events import (
    Event,
    Feedback,
    Listen,
    Model,
    RampStep,
    Recommendation,
    RecommendationRequest,
    Session,
    Track,
    TrainingBatch,
)
from tests.unit.strategies import EVENTS, events

CODEC = Codec()
LISTEN = Listen("a:0", 42, 7, 0.5, 1_700_000_000_000, "a", 0, False, "mix", {"X": "T1"}, 0.01, 3.5, "memory", 200)
EXAMPLES: list[Event] = [
    LISTEN,
    RecommendationRequest("a:0", 42, "a", 0, 7, 0.5, 1, 2),
    Recommendation("a:0", 42, 7, "mix", {}, 0.5, 0, 1.0, 2, "memory", 200),
    Session("0-0", "a", 42, 1, 2, 3, 1.5, "end"),
    Track(7, "artist", None, "genre", "title"),
    Feedback("a:0", 42, 7, "like", 1),
    Model("neighbours", 3, b"body", "digest", 2),
    TrainingBatch("id", 3, 10, 12, b"0000", b"00000000", b"0000", b"0000", b"00000000", b"00000000", b"0"),
    RampStep("MIX", 0.1, None, 1, 2, "no metric is significantly worse"),
]


@given(events)
def test_every_event_comes_back_equal(event: Any) -> None:
    assert CODEC.decode(CODEC.encode(event), type(event)) == event


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: type(event).__name__)
def test_a_value_has_confluents_header_and_is_refused_with_its_bytes_unless_it_is_whole(event: Any) -> None:
    raw = CODEC.encode(event)
    assert raw[0] == 0
    assert int.from_bytes(raw[1:HEADER_BYTES], "big") in {schema.id for schema in load()}
    for wrong in (*(raw[:length] for length in range(len(raw))), raw + b"\0"):
        with pytest.raises(DecodeError, match="1 bytes left over" if len(wrong) > len(raw) else ".") as caught:
            CODEC.decode(wrong, type(event))
        assert caught.value.raw == wrong


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (None, "empty; a Listen was expected"),
        (b"", "empty; a Listen was expected"),
        (CODEC.encode(Track(7, "artist", None, None, "title")), "is a Track; a Listen was expected"),
        (b"\0" + (4711).to_bytes(4, "big") + b"x", "unknown schema id 4711"),
        (b'{"user": 1}', "no Confluent wire format"),
        (b"\0\0", "no Confluent wire format"),
        (b"\1\0\0\0\1", "no Confluent wire format"),
    ],
)
def test_what_is_no_listen_says_what_it_is(raw: bytes | None, why: str) -> None:
    with pytest.raises(DecodeError, match=why):
        CODEC.decode(raw, Listen)


@settings(max_examples=300)
@given(st.sampled_from(list(EVENTS)), st.binary(max_size=60), st.booleans())
def test_rubbish_raises_nothing_but_decode_errors(event: Any, body: bytes, has_header: bool) -> None:
    header = CODEC.encode(next(e for e in EXAMPLES if type(e) is event))[:HEADER_BYTES]
    try:
        decoded = CODEC.decode(header + body if has_header else body, event)
    except DecodeError:
        return
    assert isinstance(decoded, event)


@settings(max_examples=300)
@given(st.integers(0, 10**6), st.binary(min_size=1, max_size=12))
def test_a_good_value_with_bytes_overwritten_raises_nothing_but_decode_errors(at: int, patch: bytes) -> None:
    raw = bytearray(CODEC.encode(LISTEN))
    at %= len(raw)
    raw[at : at + len(patch)] = patch
    try:
        CODEC.decode(bytes(raw), Listen)
    except DecodeError:
        return


@pytest.mark.parametrize("wrong", [{"user": "x"}, {"fraction": None}, {"treatments": 3}, {"user": 2**70}])
def test_a_field_of_a_wrong_type_cannot_be_encoded(wrong: dict[str, Any]) -> None:
    with pytest.raises(SchemaError, match="does not fit its schema"):
        CODEC.encode(LISTEN._replace(**wrong))


@pytest.mark.parametrize(
    ("old", "version"),
    [
        (LISTEN._replace(policy=None, candidates=None), 1),
        (Track(7, "artist", "album", "rap", "title"), 1),
        (Track(7, "artist", "album", "rap", "title"), 2),
        (Model("neighbours", 3, b"body", "digest", 2), 1),
    ],
)
def test_an_older_version_is_read_without_what_was_not_in_it(old: Any, version: int) -> None:
    older = Codec(schema for schema in load() if schema.version <= (version if schema.event is type(old) else 1))
    assert CODEC.decode(older.encode(old), type(old)) == old


PLAYED = Listen("a:0", 42, 7, 0.5, 1000, "a", 0, False, "toppop", {"A": "T1"}, 0.1, 4.5, None, 10)
ANSWER = Recommendation("a:0", 42, 7, "toppop", {"A": "T1"}, 0.1, 0, 1.0, 1000, "x", 10, None)


@pytest.fixture(autouse=True)
def few_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec_module, "PAYS_FROM", 1)
    monkeypatch.setattr(columns, "NUMPY_FROM", 1)


def one_by_one(some: Sequence[Event]) -> list[bytes] | str:
    try:
        return [CODEC.encode(event) for event in some]
    except SchemaError as error:
        return str(error)


def together(some: Sequence[Event]) -> list[bytes] | str:
    try:
        return CODEC.encode_many(some)
    except SchemaError as error:
        return str(error)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
def test_events_of_one_class(event: Any) -> None:
    @given(st.lists(EVENTS[event], max_size=12))
    def are_equal(some: list[Any]) -> None:
        assert together(some) == one_by_one(some)

    are_equal()


@given(st.lists(events, max_size=6))
def test_events_of_several_classes(some: list[Event]) -> None:
    assert together(some) == one_by_one(some)


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


@given(st.sampled_from([PLAYED, ANSWER]), st.integers(0, 11), values, st.integers(0, 2))
def test_a_value_of_any_type_among_good_ones(event: Any, field: int, value: Any, at: int) -> None:
    some = [event] * 3
    some[at] = event._replace(**{event._fields[field]: value})
    assert together(some) == one_by_one(some)


NUMBERS = (0, -1, 63, 64, -64, -65, 8191, 8192, 2**20, 2**31, 2**62, 2**63 - 1, -(2**63))


@pytest.mark.parametrize(
    "event",
    [
        *(RecommendationRequest("a:0", number, "a", 0, number, 0.5, number, number) for number in NUMBERS),
        *(PLAYED._replace(event_id="é" * length) for length in (0, 63, 64, 8191, 8192, 20_000)),
    ],
)
def test_numbers_and_texts_at_the_ends_of_their_lengths(event: Event) -> None:
    assert CODEC.encode_many([event]) == [CODEC.encode(event)]


def test_columns_are_the_events_of_their_rows() -> None:
    some = [ANSWER, ANSWER._replace(ranking=[3, 4]), ANSWER._replace(policy=None, candidates=None)]
    for rows in ([ANSWER] * 2, some):
        assert CODEC.encode_columns(list(zip(*rows, strict=True)), Recommendation) == [
            CODEC.encode(row) for row in rows
        ]
    with pytest.raises(SchemaError):
        CODEC.encode_columns(list(zip(ANSWER._replace(track="x"), strict=True)), Recommendation)  # type: ignore[arg-type]


def test_maps_that_change_between_two_events_are_written_as_they_are() -> None:
    shared = {"A": "T1"}
    first = CODEC.encode_many([PLAYED._replace(treatments=shared)] * 2)
    shared["A"] = "C"
    assert CODEC.encode_many([PLAYED._replace(treatments=shared)] * 2) != first
