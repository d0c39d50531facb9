"""Invariant: many events encoded together are the bytes of each encoded alone, and refused as each would be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botify.core.errors import SchemaError
from botify.schemas import codec as codec_module
from botify.schemas.codec import Codec
from botify.schemas.events import Event, Listen, Recommendation, RecommendationRequest
from tests.unit.strategies import EVENTS, events

CODEC = Codec()
LISTEN = Listen("a:0", 42, 7, 0.5, 1000, "a", 0, False, "toppop", {"A": "T1"}, 0.1, 4.5, None, 10)
ANSWER = Recommendation("a:0", 42, 7, "toppop", {"A": "T1"}, 0.1, 0, 1.0, 1000, "x", 10, None)


@pytest.fixture(autouse=True)
def few_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write even one event in columns."""
    monkeypatch.setattr(codec_module, "PAYS_FROM", 1)


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


@given(st.sampled_from([LISTEN, ANSWER]), st.integers(0, 11), values, st.integers(0, 2))
def test_a_value_of_any_type_among_good_ones(event: Any, field: int, value: Any, at: int) -> None:
    some = [event] * 3
    some[at] = event._replace(**{event._fields[field]: value})
    assert together(some) == one_by_one(some)


@pytest.mark.parametrize("number", [0, -1, 63, 64, -64, -65, 8191, 8192, 2**20, 2**31, 2**62, 2**63 - 1, -(2**63)])
def test_numbers_at_the_ends_of_their_lengths(number: int) -> None:
    some = [RecommendationRequest("a:0", number, "a", 0, number, 0.5, number, number)]
    assert CODEC.encode_many(some) == [CODEC.encode(some[0])]


@pytest.mark.parametrize("length", [0, 63, 64, 8191, 8192, 20_000])
def test_texts_of_any_length(length: int) -> None:
    some = [LISTEN._replace(event_id="é" * length)]
    assert CODEC.encode_many(some) == [CODEC.encode(some[0])]


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
    first = CODEC.encode_many([LISTEN._replace(treatments=shared)] * 2)
    shared["A"] = "C"
    assert CODEC.encode_many([LISTEN._replace(treatments=shared)] * 2) != first
