"""An erasure that was interrupted is completed when it is asked for again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from botify.services.gateway.v1.users import KEPT_MS, Erasures
from botify.streams.dlq.exclude import ErasureError


class FakeRedis:
    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.kept_ms: dict[str, int | None] = {}

    def get(self, key: str) -> str | None:
        return self.values.get(key)

    def set(self, key: str, value: str, px: int | None) -> None:
        self.values[key], self.kept_ms[key] = value, px


class Killed(BaseException):
    """The gateway is gone."""


def test_listens_are_looked_for_unless_nothing_can_be_left_of_them() -> None:
    redis, in_state, looked, fail = FakeRedis(), set[int](), list[bool](), list[BaseException]()

    def erase(_: int, known: Callable[[], bool]) -> int:
        looked.append(known())
        if fail:
            raise fail.pop()
        return 5

    erasures = Erasures(redis, "botify", in_state.__contains__, erase)
    assert erasures.status(7) is None
    erasures.erase(7)
    in_state.add(7)
    fail.append(Killed())
    with pytest.raises(Killed):
        erasures.erase(7)
    assert erasures.status(7).status == "running"  # type: ignore[union-attr]
    assert set(redis.kept_ms.values()) == {None}
    in_state.discard(7)  # the worker came to the tombstone, and some letters were never written
    fail.append(ErasureError("the worker is away"))
    with pytest.raises(ErasureError):
        Erasures(redis, "botify", in_state.__contains__, erase).erase(7)  # another gateway
    failed = erasures.status(7)
    assert (failed.status, failed.detail) == ("failed", "the worker is away")  # type: ignore[union-attr]
    assert erasures.erase(7) == 5
    done = erasures.status(7)
    assert (done.status, done.listens) == ("done", 5)  # type: ignore[union-attr]
    assert set(redis.kept_ms.values()) == {KEPT_MS}
    assert erasures.erase(7) == 10  # asked for again, its listens still count
    assert looked == [False, True, True, True, False]
