"""How long a caller waits for a cluster whose masters change."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import pytest
from redis.asyncio import Redis, RedisCluster
from redis.exceptions import AskError, ClusterError, MovedError, OutOfMemoryError, ResponseError, TryAgainError
from redis.exceptions import TimeoutError as RedisTimeoutError

from botify.streams.store import connect
from botify.streams.store.connect import Writes, WritesRefusedError, patiently, refusal_of
from tests.support import Clock


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
    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    async def __call__(self) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


AWAY = RedisTimeoutError(), OSError(), ClusterError("TTL exhausted.")
MIGRATED = AskError("7 127.0.0.1:7001"), TryAgainError("Multiple keys request during rehashing of slot")


@pytest.mark.parametrize(
    ("errors", "moved", "looks"),
    [
        pytest.param(AWAY, [], 3, id="made again where the slots are now"),
        pytest.param([MovedError("7 127.0.0.1:7001")], [7], 0, id="who redirects is believed"),
        pytest.param(MIGRATED, [], 0, id="a slot that is migrated is waited for"),
    ],
)
def test_a_call_is_repeated(
    errors: Sequence[Exception], moved: list[int], looks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect, "FIRST_PAUSE_S", 0.0)
    cluster = FakeCluster()
    assert asyncio.run(patiently(cluster, Failing(*errors))) == "answer"
    assert (cluster.moved, len(cluster.looks)) == (moved, looks)


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
    asyncio.run(connect.find_masters(cluster, "127.0.0.1:7001"))
    assert cluster.looks == ["127.0.0.1:7001"]


FULL = OutOfMemoryError("command not allowed when used memory > 'maxmemory'. script: on @user_script:4.")


class Waits(Clock):
    """A clock that goes on where somebody sleeps; `seen` is what a probe says meanwhile."""

    def __init__(self, probe: Callable[[], str | None]) -> None:
        super().__init__()
        self.pauses: list[float] = []
        self.seen: set[str | None] = set()
        self._probe = probe

    async def sleep(self, pause_s: float) -> None:
        self.pauses.append(pause_s)
        self.seen.add(self._probe())
        self.now_s += pause_s


Patience = Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]


def patient() -> tuple[Patience, Writes, Waits]:
    writes = Writes()
    waits = Waits(writes.problem)
    return partial(patiently, None, writes=writes, clock=waits, sleep=waits.sleep), writes, waits


async def test_a_write_waits_until_redis_takes_it(caplog: pytest.LogCaptureFixture) -> None:
    patience, writes, waits = patient()
    for refusals in (3, 2):
        assert await patience(Failing(*[FULL] * refusals)) == "answer"
        assert writes.problem() is None
    assert waits.seen == {refusal_of(FULL)}
    assert writes.refused == 5
    assert waits.pauses == [0.1, 0.2, 0.4, 0.1, 0.2]
    assert [record.levelno for record in caplog.records] == [logging.ERROR, logging.ERROR]


async def test_patience_has_an_end_that_says_what_to_do() -> None:
    patience, writes, waits = patient()
    with pytest.raises(WritesRefusedError, match=r"for 20 s: raise `maxmemory`.*resumes from its checkpoint"):
        await patience(Failing(*[FULL] * 1_000))
    assert 0.0 <= waits.now_s - connect.PATIENCE_S <= connect.LONGEST_PAUSE_S
    assert writes.refused == len(waits.pauses) + 1
    assert writes.problem() is not None


async def test_another_error_is_not_waited_for() -> None:
    patience, writes, waits = patient()
    with pytest.raises(ResponseError):
        await patience(Failing(ResponseError("WRONGTYPE")))
    assert (waits.pauses, writes.problem()) == ([], None)


async def test_a_partition_that_is_taken_away_meanwhile_is_no_problem_any_more() -> None:
    writes = Writes()
    waiting = asyncio.create_task(patiently(None, Failing(*[FULL] * 1_000), writes=writes))
    await asyncio.sleep(0)
    assert writes.problem() is not None
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert writes.problem() is None
