import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botify.core.errors import RejectedMessageError, ValidationError
from botify.schemas import validation as module
from botify.schemas.codec import Codec, load
from botify.schemas.events import Listen, RecommendationRequest
from botify.schemas.validation import (
    MAX_BOOST,
    MAX_ID_BYTES,
    MAX_LIST,
    MAX_SLATE,
    MAX_TIMESTAMP_MS,
    MAX_TRACK,
    MAX_USER,
    Intake,
    accept_requests,
    check,
)
from tests.support import FakeMessage

LISTEN = Listen("a:0", 42, 7, 0.5, 1_000, "a", 0, False, None, {}, None, None)
REQUEST = RecommendationRequest("a:0", 42, "a", 0, 7, 0.5, 1_000, 2_000)
TWO_BYTES = "é" * (MAX_ID_BYTES // 2)
LIKELY: list[dict[str, Any]] = [
    {}, {"fraction": 0.0}, {"fraction": 1.0}, {"track": 0}, {"track": MAX_TRACK}, {"timestamp_ms": 0},
    {"timestamp_ms": MAX_TIMESTAMP_MS}, {"session_id": TWO_BYTES},
]  # fmt: skip


@pytest.mark.parametrize("event", [LISTEN, REQUEST])
@pytest.mark.parametrize("likely", LIKELY)
def test_what_can_be_true_passes(event: Any, likely: dict[str, Any]) -> None:
    check(event._replace(**likely), b"42", b"raw")
    check(event._replace(**{event._fields[0]: TWO_BYTES}), b"42", b"raw")
    for size in (1, MAX_LIST, None):
        check(REQUEST._replace(list_size=size), b"42", b"raw")


IDS = ("", "x" * (MAX_ID_BYTES + 1), "é" * 128)


@pytest.mark.parametrize("event", [LISTEN, REQUEST])
@pytest.mark.parametrize(
    ("field", "wrong", "why"),
    [
        *(("fraction", one, f"fraction {one} is not between 0 and 1") for one in (7.0, -0.01, math.nan, math.inf)),
        *(("track", one, f"track {one} is not between") for one in (-1, MAX_TRACK + 1)),
        *(("timestamp_ms", one, f"timestamp_ms {one} is not between") for one in (-1, MAX_TIMESTAMP_MS + 1)),
        ("position", -1, "position -1 is negative"),
        *(("session_id", one, "session_id must have 1 to 255 bytes") for one in IDS),
    ],
)
def test_what_cannot_be_true_is_refused_with_the_field(event: Any, field: str, wrong: Any, why: str) -> None:
    with pytest.raises(ValidationError, match=why) as caught:
        check(event._replace(**{field: wrong}), b"42", b"raw")
    assert caught.value.raw == b"raw"


@pytest.mark.parametrize(
    ("event", "key", "why"),
    [
        *((LISTEN._replace(user=n), b"%d" % n, f"user {n} is not between") for n in (-1, MAX_USER + 1)),
        *((LISTEN._replace(event_id=one), b"42", "event_id and session_id must have 1 to 255 bytes") for one in IDS),
        *((REQUEST._replace(request_id=one), b"42", "request_id and session_id must have 1 to 255") for one in IDS),
        *((LISTEN, key, "is not the user's id 42") for key in (None, b"", b"43", b"042", b"\0\0\0\x2a")),
        *((REQUEST._replace(list_size=n), b"42", f"list_size {n} is not between 1") for n in (0, -1, MAX_LIST + 1)),
        *((REQUEST._replace(slate={"size": n}), b"42", f"a slate of {n} tracks") for n in (0, -1, MAX_SLATE + 1)),
    ],
)
def test_a_user_an_id_a_key_or_a_list_that_cannot_be_is_refused(event: Any, key: bytes | None, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        check(event, key, b"")


CODEC = Codec()
OLDER = Codec(schema for schema in load() if schema.version == 1)
INTAKE = Intake(CODEC)
PARTITIONS = 8


def message(request: RecommendationRequest) -> FakeMessage:
    return FakeMessage(key=b"%d" % request.user, value=CODEC.encode(request))


def judged(messages: Sequence[FakeMessage]) -> list[str]:
    # as text: a fraction that is not a number differs from itself
    found = accept_requests(messages, INTAKE, PARTITIONS)
    return [f"{one!r} {one.raw!r}" if isinstance(one, RejectedMessageError) else repr(one) for one in found]


def assert_equal(messages: Sequence[FakeMessage], monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module, "TOGETHER", 10**9)
        alone = judged(messages)
        patch.setattr(module, "TOGETHER", 1)
        assert judged(messages) == alone


def near(*bounds: int) -> st.SearchStrategy[int]:
    return st.sampled_from([bound + off for bound in bounds for off in (-1, 0, 1)])


SLATE = {"without_listen": True, "exclude": [7], "filters": ["genre:x"], "liked": [], "explain": False}
requests = st.builds(
    RecommendationRequest,
    st.sampled_from(["r:0", "", "é", "x" * MAX_ID_BYTES, "x" * (MAX_ID_BYTES + 1), "é" * 128]),
    st.integers(0, 100) | near(0, MAX_USER),
    st.sampled_from(["s", "", "é" * 128]),
    st.integers(-1, 3),
    st.integers(0, 100) | near(0, MAX_TRACK),
    st.floats(0.0, 1.0) | st.floats(),
    st.integers(0, 10**12) | near(0, MAX_TIMESTAMP_MS),
    st.integers(-(2**62), 2**62),
    st.none() | near(0, MAX_LIST),
    st.none() | near(0, PARTITIONS),
    st.none() | near(0, MAX_SLATE).map(lambda size: {**SLATE, "size": size}),
)
WHOLE = CODEC.encode(REQUEST)
cut_and_longer = st.builds(lambda cut, more: WHOLE[:cut] + more, st.integers(0, 60), st.binary(max_size=2))
messages = st.one_of(
    st.just(message(REQUEST)),
    requests.map(message),
    requests.map(lambda one: FakeMessage(key=b"%d" % one.user, value=OLDER.encode(one))),
    st.builds(FakeMessage, key=st.sampled_from([b"42", b"042", b"", None]), value=st.just(WHOLE)),
    st.builds(FakeMessage, key=st.just(b"42"), value=st.none() | st.binary(max_size=40)),
    st.builds(FakeMessage, key=st.just(b"42"), value=cut_and_longer),
)


def test_any_mixture(monkeypatch: pytest.MonkeyPatch) -> None:
    @given(st.lists(messages, max_size=8))
    def are_equal(some: list[FakeMessage]) -> None:
        assert_equal(some, monkeypatch)

    are_equal()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("fraction", math.nan), ("user", MAX_USER + 1), ("track", -1), ("timestamp_ms", MAX_TIMESTAMP_MS + 1),
        ("position", -1), ("request_id", ""), ("session_id", "x" * (MAX_ID_BYTES + 1)), ("list_size", 0),
        ("reply_partition", PARTITIONS), ("reply_partition", -1),
    ],
)  # fmt: skip
def test_each_field_is_checked_in_columns(field: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOGETHER", 1)
    some = [REQUEST, REQUEST._replace(**{field: value}), REQUEST._replace(reply_partition=PARTITIONS - 1)]
    found = accept_requests([message(one) for one in some], INTAKE, PARTITIONS)
    assert (found[0], found[2]) == (some[0], some[2])
    assert isinstance(found[1], ValidationError)
    assert field in str(found[1])


@pytest.mark.parametrize("boost", [0.5, -1.0, MAX_BOOST + 1.0, float("nan"), float("inf")])
def test_a_boost_without_a_meaning_is_refused(boost: float) -> None:
    rule = {"tracks": [], "filters": [], "boost": boost, "place": None}
    slate: Any = {"size": 2, "liked_weights": [], "rules": [rule]}
    with pytest.raises(ValidationError, match="a boost of a rule is neither 0 nor between 1 and 10"):
        check(REQUEST._replace(slate=slate), b"42", b"")
    rule["boost"] = 0.0
    check(REQUEST._replace(slate=slate), b"42", b"")
