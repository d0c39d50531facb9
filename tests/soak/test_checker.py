"""The checker of the soak accepts a good history, and refuses each way to break a promise."""

from typing import Any

import pytest

from botify.schemas.events import Listen
from tests.soak.checker import judge_listens, judge_swaps


def call(event: str, status: int = 200, track: int = 7) -> dict[str, Any]:
    return {"kind": "listen", "status": status, "user": 1, "event": event, "track": track, "time": 0.5}


def listen(event: str) -> Listen:
    return Listen(event, 1, 7, 0.5, 0, "s", 0, False, None, {}, None, None)


def swap(at_s: float, former: str, new: str) -> list[dict[str, Any]]:
    return [
        {"kind": "swapping", "at_s": at_s - 1, "new": new},
        {"kind": "swap", "at_s": at_s, "former": former, "new": new},
    ]


def read(began_s: float, namespace: str) -> dict[str, Any]:
    return {"kind": "read", "began_s": began_s, "namespace": namespace}


A, B, C = listen("a"), listen("b"), listen("c")
CALLS = [call("a"), call("b")]


def test_copies_and_listens_without_an_answer_are_accepted() -> None:
    assert judge_listens([*CALLS, call("c", status=0)], [A, B, A, C], {1: 3}) == []


@pytest.mark.parametrize(
    ("calls", "topic", "count", "wrong"),
    [
        (CALLS, [A], 1, "b was acknowledged and is not in the topic"),
        (CALLS, [A, B, A], 3, "3 listens by the state, 2 different"),
        (CALLS, [A, B], 1, "1 listens by the state, 2 different"),
        (CALLS, [B, A], 2, "a and b changed places"),
        ([call("a"), call("a")], [A], 1, "a and a changed places, or are one"),
        ([call("a", track=8)], [A], 1, "a is Listen"),
    ],
)
def test_a_broken_promise_to_listeners_is_noticed(
    calls: list[dict[str, Any]], topic: list[Listen], count: int, wrong: str
) -> None:
    (told,) = judge_listens(calls, topic, {1: count})
    assert wrong in told


def test_reads_may_follow_a_swap_late_and_a_try_early() -> None:
    tried = {"kind": "swapping", "at_s": 20.0, "new": "c"}
    operations = [read(1, "a"), *swap(10, "a", "b"), read(14, "a"), read(16, "b"), tried, read(21, "c"), read(22, "b")]
    assert judge_swaps(operations, "a", "c", {"a": ({0: 5}, {0: 5})}) == []


@pytest.mark.parametrize(
    ("more", "live", "then", "wrong"),
    [
        ([read(16, "a")], "b", {0: 5}, "read from a"),
        ([], "a", {0: 5}, "a is live at the end"),
        ([], "b", {0: 4}, "a has changed after it was replaced"),
    ],
)
def test_a_stale_swap_is_noticed(more: list[dict[str, Any]], live: str, then: dict[int, int], wrong: str) -> None:
    (told,) = judge_swaps([*swap(10, "a", "b"), *more], "a", live, {"a": (then, {0: 5})})
    assert wrong in told
