from __future__ import annotations

import math
from typing import Any

import pytest

from botify.core.errors import ValidationError
from botify.schemas.events import Listen, RecommendationRequest
from botify.schemas.validation import MAX_ID_BYTES, MAX_LIST, MAX_TIMESTAMP_MS, MAX_TRACK, MAX_USER, check

LISTEN = Listen("a:0", 42, 7, 0.5, 1_000, "a", 0, False, None, {}, None, None)
REQUEST = RecommendationRequest("a:0", 42, "a", 0, 7, 0.5, 1_000, 2_000)


@pytest.mark.parametrize("event", [LISTEN, REQUEST])
@pytest.mark.parametrize(
    "likely",
    [
        {},
        {"fraction": 0.0},
        {"fraction": 1.0},
        {"track": 0},
        {"track": MAX_TRACK},
        {"timestamp_ms": 0},
        {"timestamp_ms": MAX_TIMESTAMP_MS},
        {"session_id": "é" * (MAX_ID_BYTES // 2)},
    ],
)
def test_what_can_be_true_passes(event: Any, likely: dict[str, Any]) -> None:
    check(event._replace(**likely), b"42", b"raw")


@pytest.mark.parametrize("event", [LISTEN, REQUEST])
@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"fraction": 7.0}, "fraction 7.0 is not between 0 and 1"),
        ({"fraction": -0.01}, "fraction -0.01 "),
        ({"fraction": math.nan}, "fraction nan "),
        ({"fraction": math.inf}, "fraction inf "),
        ({"track": -1}, "track -1 is not between"),
        ({"track": MAX_TRACK + 1}, f"track {MAX_TRACK + 1} is not between"),
        ({"timestamp_ms": -1}, "timestamp_ms -1 is not between"),
        ({"timestamp_ms": MAX_TIMESTAMP_MS + 1}, "timestamp_ms "),
        ({"position": -1}, "position -1 is negative"),
        ({"session_id": ""}, "session_id must have 1 to 255 bytes"),
        ({"session_id": "é" * 128}, "session_id must have 1 to 255 bytes"),
    ],
)
def test_what_cannot_be_true_is_refused_with_the_field(event: Any, wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why) as caught:
        check(event._replace(**wrong), b"42", b"raw")
    assert caught.value.raw == b"raw"


@pytest.mark.parametrize("user", [-1, MAX_USER + 1])
def test_a_user_that_cannot_be_is_refused(user: int) -> None:
    with pytest.raises(ValidationError, match=f"user {user} is not between"):
        check(LISTEN._replace(user=user), b"%d" % user, b"")


@pytest.mark.parametrize("id_", ["", "x" * (MAX_ID_BYTES + 1), "é" * 128])
@pytest.mark.parametrize(("event", "field"), [(LISTEN, "event_id"), (REQUEST, "request_id")])
def test_the_events_own_id_has_a_length_in_bytes(event: Any, field: str, id_: str) -> None:
    check(event._replace(**{field: "é" * 127}), b"42", b"")
    with pytest.raises(ValidationError, match=f"{field} and session_id must have 1 to 255 bytes"):
        check(event._replace(**{field: id_}), b"42", b"")


@pytest.mark.parametrize("key", [None, b"", b"43", b"042", b"\0\0\0\x2a"])
def test_a_key_that_is_not_the_users_is_refused(key: bytes | None) -> None:
    with pytest.raises(ValidationError, match="is not the user's id 42"):
        check(LISTEN, key, b"")


@pytest.mark.parametrize("size", [1, MAX_LIST, None])
def test_a_list_may_have_so_many_tracks(size: int | None) -> None:
    check(REQUEST._replace(list_size=size), b"42", b"")


@pytest.mark.parametrize("size", [0, -1, MAX_LIST + 1])
def test_a_list_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(ValidationError, match=f"list_size {size} is not between 1 and {MAX_LIST}"):
        check(REQUEST._replace(list_size=size), b"42", b"")
