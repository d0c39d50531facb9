"""Invariant: requests that are accepted together are those that each would be by itself, with the same reasons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botify.core.errors import RejectedMessageError, ValidationError
from botify.schemas import validation as module
from botify.schemas.codec import Codec, load
from botify.schemas.events import RecommendationRequest
from botify.schemas.validation import (
    MAX_ID_BYTES,
    MAX_LIST,
    MAX_SLATE,
    MAX_TIMESTAMP_MS,
    MAX_TRACK,
    MAX_USER,
    Intake,
    accept_requests,
)

CODEC = Codec()
OLDER = Codec(schema for schema in load() if schema.version == 1)
INTAKE = Intake(CODEC)
PARTITIONS = 8
GOOD = RecommendationRequest("r:0", 42, "s", 0, 7, 0.5, 1000, 2000)


class FakeMessage(NamedTuple):
    """confluent_kafka's methods."""

    k: bytes | None
    v: bytes | None

    def key(self) -> bytes | None:
        return self.k

    def value(self) -> bytes | None:
        return self.v


def message(request: RecommendationRequest) -> FakeMessage:
    return FakeMessage(b"%d" % request.user, CODEC.encode(request))


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
    st.none()
    | st.builds(
        lambda size: {
            "size": size,
            "without_listen": True,
            "exclude": [7],
            "filters": ["genre:x"],
            "liked": [],
            "explain": False,
        },
        near(0, MAX_SLATE),
    ),
)
messages = st.one_of(
    st.just(message(GOOD)),
    requests.map(message),
    requests.map(lambda one: FakeMessage(b"%d" % one.user, OLDER.encode(one))),
    st.builds(FakeMessage, st.sampled_from([b"42", b"042", b"", None]), st.just(CODEC.encode(GOOD))),
    st.builds(FakeMessage, st.just(b"42"), st.none() | st.binary(max_size=40)),
    st.builds(
        lambda cut, more: FakeMessage(b"42", CODEC.encode(GOOD)[:cut] + more), st.integers(0, 60), st.binary(max_size=2)
    ),
)


def test_any_mixture(monkeypatch: pytest.MonkeyPatch) -> None:
    @given(st.lists(messages, max_size=8))
    def are_equal(some: list[FakeMessage]) -> None:
        assert_equal(some, monkeypatch)

    are_equal()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("fraction", 1.5),
        ("fraction", float("nan")),
        ("user", MAX_USER + 1),
        ("track", -1),
        ("timestamp_ms", MAX_TIMESTAMP_MS + 1),
        ("position", -1),
        ("request_id", ""),
        ("session_id", "x" * (MAX_ID_BYTES + 1)),
        ("list_size", 0),
        ("reply_partition", PARTITIONS),
        ("reply_partition", -1),
    ],
)
def test_each_field_is_checked_in_columns(field: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOGETHER", 1)
    some = [GOOD, GOOD._replace(**{field: value}), GOOD._replace(reply_partition=PARTITIONS - 1)]
    found = accept_requests([message(one) for one in some], INTAKE, PARTITIONS)
    assert (found[0], found[2]) == (some[0], some[2])
    assert isinstance(found[1], ValidationError)
    assert field in str(found[1])


def test_good_requests_take_no_object_path(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(module, "TOGETHER", 1)
    monkeypatch.setattr(module, "decode_and_validate", refuse)
    some = [GOOD, GOOD._replace(user=7, reply_partition=3)]
    assert accept_requests([message(one) for one in some], INTAKE, PARTITIONS) == some
