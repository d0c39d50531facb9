"""How long a caller waits for a cluster whose masters change."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis, RedisCluster
from redis.exceptions import AskError, ClusterError, MovedError, ResponseError, TryAgainError
from redis.exceptions import TimeoutError as RedisTimeoutError

from botify.streams.store import connect
from botify.streams.store.connect import find_masters, patiently


class FakeCluster(RedisCluster):
    """Keeps what it learns of slots: who redirected a call, and when the nodes were asked who has which."""

    def __init__(self) -> None:
        self.nodes_manager = self  # type: ignore[assignment]
        self._initialize: Any = True  # nothing to close
        self.looks: list[str | None] = []
        self.moved: list[int] = []

    async def move_slot(self, error: MovedError) -> None:
        self.moved.append(error.slot_id)

    async def initialize(self, *_: object, last_failed_node_name: str | None = None) -> FakeCluster:
        self.looks.append(last_failed_node_name)
        return self


class Failing:
    """Raises errors in turn, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    async def __call__(self) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "FIRST_PAUSE_S", 0.0)


def test_a_call_that_times_out_is_made_again_where_the_slots_are_now() -> None:
    cluster = FakeCluster()
    call = Failing(RedisTimeoutError(), OSError(), ClusterError("TTL exhausted."))
    assert asyncio.run(patiently(cluster, call)) == "answer"
    assert len(cluster.looks) == 3


def test_who_redirects_a_call_is_believed() -> None:
    cluster = FakeCluster()
    assert asyncio.run(patiently(cluster, Failing(MovedError("7 127.0.0.1:7001")))) == "answer"
    assert (cluster.moved, cluster.looks) == ([7], [])


def test_a_slot_that_is_migrated_is_waited_for() -> None:
    cluster = FakeCluster()
    call = Failing(AskError("7 127.0.0.1:7001"), TryAgainError("Multiple keys request during rehashing of slot"))
    assert asyncio.run(patiently(cluster, call)) == "answer"
    assert (cluster.moved, cluster.looks) == ([], [])


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "PATIENCE_S", 0.0)
    with pytest.raises(RedisTimeoutError, match="third"):
        asyncio.run(patiently(FakeCluster(), Failing(*map(RedisTimeoutError, ["third", "fourth"]))))


@pytest.mark.parametrize(
    ("client", "error"), [(FakeCluster(), ResponseError("wrong")), (Redis(), RedisTimeoutError("waited already"))]
)
def test_what_another_try_cannot_help_is_raised_at_once(client: Any, error: Exception) -> None:
    call = Failing(error, error)
    with pytest.raises(type(error)):
        asyncio.run(patiently(client, call))
    assert len(call.errors) == 1


def test_the_node_that_failed_is_asked_last() -> None:
    cluster = FakeCluster()
    asyncio.run(find_masters(cluster, "127.0.0.1:7001"))
    assert cluster.looks == ["127.0.0.1:7001"]
