"""Calls of many requests share round trips, and each gets its own reply."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from botify.services.errors import UnavailableError
from botify.services.gateway import scripts
from botify.services.gateway.scripts import ScriptBatcher
from botify.streams.store.node import Command


class FakeRedis:
    """Replies to each script with its last argument; a round trip takes one turn of the loop."""

    def __init__(self) -> None:
        self.round_trips: list[int] = []
        self.away = False
        self.hangs: set[str] = set()

    async def pipelined(self, _: str, commands: Sequence[Command]) -> list[Any]:
        self.round_trips.append(len(commands))
        await asyncio.sleep(10 if any(key in self.hangs for _, _, _, key, *_ in commands) else 0)
        if self.away:
            raise RedisConnectionError
        return [ResponseError("no") if command[-1] == "!" else command[-1] for command in commands]

    async def aclose(self) -> None:
        pass


@pytest.fixture(autouse=True)
def without_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripts, "pipelined", FakeRedis.pipelined)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls give up soon, and do not wait for a master."""
    monkeypatch.setattr(scripts, "HOLD_S", 0.0)
    monkeypatch.setattr(scripts, "TIMEOUT_S", 0.05)
    monkeypatch.setattr(scripts, "PROBE_EVERY_S", 0.01)


def start(calls: ScriptBatcher, arguments: str, key: str = "key") -> list[asyncio.Task[Any]]:
    return [asyncio.create_task(calls.run("script", key, one)) for one in arguments]


async def answers_to(tasks: list[asyncio.Task[Any]]) -> list[Any]:
    """Return the answers, of a call that failed the type of its error."""
    found = await asyncio.gather(*tasks, return_exceptions=True)
    return [type(one) if isinstance(one, BaseException) else one for one in found]


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def test_calls_during_a_round_trip_share_the_next_one() -> None:
    redis = FakeRedis()
    calls = ScriptBatcher(redis)
    first = start(calls, "a")
    await until(lambda: redis.round_trips)
    assert await answers_to(first + start(calls, "bcd")) == list("abcd")
    assert await calls.run("script", "key", "e") == "e"
    assert redis.round_trips == [1, 3, 1]


async def test_an_error_fails_only_its_own_call() -> None:
    assert await answers_to(start(ScriptBatcher(FakeRedis()), "a!")) == ["a", UnavailableError]


@pytest.mark.usefixtures("impatient")
async def test_calls_fail_at_once_until_redis_answers_again() -> None:
    redis = FakeRedis()
    redis.hangs = {"key"}
    calls = ScriptBatcher(redis)
    waited = start(calls, "a")
    await asyncio.sleep(0)
    assert await answers_to(waited + start(calls, "bc")) == [UnavailableError] * 3
    assert set(redis.round_trips) == {1}, "those that waited failed with the first; the probe goes on"
    assert calls.problem == "Redis does not answer (TimeoutError)"
    sent = len(redis.round_trips)
    with pytest.raises(UnavailableError):
        await calls.run("script", "key", "d")
    assert len(redis.round_trips) == sent
    redis.hangs = set()
    await until(lambda: calls.problem is None)
    assert await calls.run("script", "key", "e") == "e"
    await until(lambda: len(asyncio.all_tasks()) == 1)  # the probe has ended
    await calls.close()


@pytest.mark.usefixtures("impatient")
async def test_a_hanging_master_delays_no_calls_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    asked_last: list[str] = []

    async def find_masters(_: object, failed: str) -> None:
        asked_last.append(failed)

    monkeypatch.setattr(scripts, "master_of", lambda _, key: key[0])
    monkeypatch.setattr(scripts, "find_masters", find_masters)
    redis = FakeRedis()
    redis.hangs = {"x1"}
    calls = ScriptBatcher(redis)
    (hanging,) = start(calls, "a", "x1")
    await asyncio.sleep(0)
    assert await calls.run("script", "y1", "b") == "b"
    assert not hanging.done()
    assert await answers_to([hanging]) == [UnavailableError]
    assert await answers_to(start(calls, "c", "x2")) == [UnavailableError]
    assert await calls.run("script", "y2", "d") == "d"
    await calls.close()
    assert set(asked_last) == {"x"}


async def away_for_a_while(redis: FakeRedis, calls: ScriptBatcher) -> list[asyncio.Task[Any]]:
    """Make calls while Redis is away: one that finds out, and two that wait with it."""
    redis.away = True
    waiting = start(calls, "abc")
    await until(lambda: calls.problem)
    return waiting


async def test_calls_wait_for_a_master_that_is_soon_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripts, "PROBE_EVERY_S", 0.01)
    redis = FakeRedis()
    calls = ScriptBatcher(redis)
    waiting = [*await away_for_a_while(redis, calls), *start(calls, "d")]
    done, _ = await asyncio.wait(waiting, timeout=0.05)
    assert not done
    redis.away = False
    assert await answers_to(waiting) == list("abcd")
    await calls.close()


async def test_calls_wait_for_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripts, "HOLD_S", 0.1)
    redis = FakeRedis()
    calls = ScriptBatcher(redis)
    waiting = await away_for_a_while(redis, calls)
    assert await answers_to(waiting) == [UnavailableError] * 3
    with pytest.raises(UnavailableError):
        async with asyncio.timeout(0.05):
            await calls.run("script", "key", "later")
    await calls.close()


async def test_calls_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripts, "MOST_HELD", 3)
    redis = FakeRedis()
    calls = ScriptBatcher(redis)
    waiting = await away_for_a_while(redis, calls)
    with pytest.raises(UnavailableError):
        async with asyncio.timeout(0.05):
            await calls.run("script", "key", "d")
    assert not any(one.done() for one in waiting)
    redis.away = False
    assert await asyncio.gather(*waiting) == list("abc")
    await calls.close()
