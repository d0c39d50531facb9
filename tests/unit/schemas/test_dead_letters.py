from __future__ import annotations

from core.errors import DecodeError
from schemas.dead_letters import PREFIX, dead_letter_headers


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
