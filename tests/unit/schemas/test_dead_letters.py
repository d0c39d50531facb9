from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from confluent_kafka import TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME, TIMESTAMP_NOT_AVAILABLE

from core.errors import DecodeError
from core.kafka.layout import COPIED
from schemas.dead_letters import PREFIX, Origin, dead_letter_headers, origin_of, originals_of


@pytest.mark.parametrize(
    ("partition", "offset"), [(-1, 0), (0, -1), (2**31, 0), (0, 10**30), ("x", 0), (0, "9" * 5_000)]
)
def test_a_letter_of_a_place_that_no_topic_has_names_no_origin(partition: Any, offset: Any) -> None:
    headers = dead_letter_headers("t", partition, offset, None, ValueError("no"))
    assert origin_of(headers) is None
    assert origin_of([(name, b"") for name, _ in headers]) is None


def test_headers_say_where_the_record_came_from_and_why() -> None:
    headers = dead_letter_headers("botify.listens", 3, 17, None, DecodeError("not a whole Listen: é", b"raw"))
    assert headers == [
        (PREFIX + "topic", b"botify.listens"),
        (PREFIX + "partition", b"3"),
        (PREFIX + "offset", b"17"),
        (PREFIX + "stage", b"VALUE_CONVERTER"),
        (PREFIX + "exception.class.name", b"DecodeError"),
        (PREFIX + "exception.message", "not a whole Listen: é".encode()),
    ]


def test_the_records_own_headers_are_kept_but_for_those_of_an_earlier_death() -> None:
    own = [("trace", b"1"), ("trace", b"2"), (PREFIX + "topic", b"elsewhere")]
    headers = dead_letter_headers("t", 0, 0, own, ValueError("no"))
    assert headers[:2] == own[:2]
    assert [value for name, value in headers if name == PREFIX + "topic"] == [b"t"]


def test_a_reason_that_quotes_a_huge_key_is_cut_short() -> None:
    headers = dict(dead_letter_headers("t", 0, 1, None, ValueError(repr(b"\xff" * 1_000_000))))
    assert len(headers["__connect.errors.exception.message"]) == 1_000


class Copy:
    """A record as confluent's consumers return it, with `COPIED` headers."""

    def __init__(self, *values: bytes | None, topic: str = "botify.listens-16", stamp: int = TIMESTAMP_CREATE_TIME):
        self._values, self._topic, self._stamp = values, topic, stamp

    def topic(self) -> str:
        return self._topic

    def timestamp(self) -> tuple[int, int]:
        return self._stamp, 1_700_000_000_000

    def headers(self) -> Sequence[tuple[str, bytes | None]]:
        return [("trace", b"17"), *((COPIED, value) for value in self._values)]


def originals(*values: bytes | None, **record: Any) -> list[str]:
    return [str(origin) for origin in originals_of(Copy(*values, **record))]  # type: ignore[arg-type]


def test_a_copy_names_its_originals_from_the_first_layout_on() -> None:
    assert originals(b"botify.listens/3/17") == ["botify.listens/3/17"]
    chain = [b"botify.listens/3/17", b"botify.listens-16/7/19"]
    assert originals(*chain, topic="botify.listens-32") == [value.decode() for value in chain]
    assert originals() == []


@pytest.mark.parametrize("stamp", [TIMESTAMP_LOG_APPEND_TIME, TIMESTAMP_NOT_AVAILABLE])
def test_what_arrived_in_an_open_topic_is_no_copy_whatever_it_says(stamp: int) -> None:
    """Invariant: erasing a listener excludes no listen of another, because only a copy has originals."""
    assert originals(b"botify.listens/3/17", stamp=stamp) == []


def test_the_first_layout_has_no_copies() -> None:
    assert originals(b"botify.listens/3/17", topic="botify.listens") == []


@pytest.mark.parametrize(
    "value",
    [
        *(
            None,
            b"",
            b"\xff",
            b"17",
            b"botify.listens/3/x",
            b"botify.listens/-3/17",
            b"botify.listens/3/" + b"9" * 5_000,
        ),
        *(b"botify.listens-16/3/17", b"botify.listens-32/3/17", b"botify.sessions/3/17"),  # no earlier layout
    ],
)
def test_a_value_that_names_no_record_of_an_earlier_layout_is_ignored(value: bytes | None) -> None:
    assert originals(value) == []
    assert originals(value, b"botify.listens/3/17") == ["botify.listens/3/17"]


def test_what_the_producer_of_an_original_claimed_is_not_before_it() -> None:
    assert originals(b"botify.listens/0/5", b"botify.listens/3/17") == [str(Origin("botify.listens", 3, 17))]
