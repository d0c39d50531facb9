"""Calls of many requests share round trips, and each gets its own reply."""

from __future__ import annotations

import asyncio
from typing import Any, Self

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from services.gateway import sessions
from services.gateway.messages import UnavailableError
from services.gateway.sessions import ScriptBatcher


class FakeRedis:
    """Replies to each script with its last argument; a pipeline takes one turn of the loop."""

    def __init__(self) -> None:
        self.round_trips: list[int] = []
        self.away = False
        self.hangs: set[str] = set()

    def pipeline(self, *, transaction: bool) -> FakePipeline:
        assert not transaction
        return FakePipeline(self)

    async def aclose(self) -> None:
        pass


class FakePipeline:
    def __init__(self, redis: FakeRedis) -> None:
        self._redis = redis
        self._calls: list[tuple[Any, ...]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def eval(self, *arguments: Any) -> None:
        self._calls.append(arguments)

    async def execute(self, *, raise_on_error: bool) -> list[Any]:
        assert not raise_on_error
        self._redis.round_trips.append(len(self._calls))
        await asyncio.sleep(10 if any(key in self._redis.hangs for _, _, key, *_ in self._calls) else 0)
        if self._redis.away:
            raise RedisConnectionError
        return [ResponseError("no") if call[-1] == "wrong" else call[-1] for call in self._calls]


def run(redis: FakeRedis, *arguments: str) -> list[Any]:
    """Make calls at the same time."""

    async def all_at_once() -> list[Any]:
        calls = ScriptBatcher(redis)
        done = await asyncio.gather(*(calls.run("script", "key", one) for one in arguments), return_exceptions=True)
        await calls.close()
        return done

    return asyncio.run(all_at_once())


def test_calls_made_together_take_one_round_trip() -> None:
    redis = FakeRedis()
    assert run(redis, *"abcde") == list("abcde")
    assert redis.round_trips == [5]


def test_calls_during_a_round_trip_share_the_next_one() -> None:
    async def scenario() -> list[int]:
        redis = FakeRedis()
        calls = ScriptBatcher(redis)
        first = asyncio.create_task(calls.run("script", "key", "a"))
        async with asyncio.timeout(5):
            while not redis.round_trips:
                await asyncio.sleep(0)
        assert await asyncio.gather(*(calls.run("script", "key", one) for one in "bcd")) == list("bcd")
        assert await first == "a"
        assert await calls.run("script", "key", "e") == "e"
        return redis.round_trips

    assert asyncio.run(scenario()) == [1, 3, 1]


def test_an_error_fails_only_its_own_call() -> None:
    good, wrong = run(FakeRedis(), "a", "wrong")
    assert good == "a"
    assert isinstance(wrong, UnavailableError)


def test_all_waiting_calls_fail_while_redis_is_unreachable() -> None:
    redis = FakeRedis()
    redis.away = True
    assert [type(error) for error in run(redis, "a", "b")] == [UnavailableError] * 2


def test_a_hanging_redis_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "TIMEOUT_S", 0.02)
    redis = FakeRedis()
    redis.hangs = {"key"}
    (error,) = run(redis, "a")
    assert "TimeoutError" in str(error)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "TIMEOUT_S", 0.05)
    monkeypatch.setattr(sessions, "PROBE_EVERY_S", 0.01)


@pytest.mark.usefixtures("quick")
def test_calls_fail_at_once_until_redis_answers_again() -> None:
    async def scenario() -> None:
        redis = FakeRedis()
        redis.hangs = {"key"}
        calls = ScriptBatcher(redis)
        waited = [asyncio.create_task(calls.run("script", "key", "a"))]
        await asyncio.sleep(0)
        waited += [asyncio.create_task(calls.run("script", "key", one)) for one in "bc"]
        assert [type(error) for error in await asyncio.gather(*waited, return_exceptions=True)] == [
            UnavailableError
        ] * 3
        assert set(redis.round_trips) == {1}, "those that waited failed with the first; the probe goes on"
        assert calls.problem == "Redis does not answer (TimeoutError)"
        sent = len(redis.round_trips)
        with pytest.raises(UnavailableError):
            await calls.run("script", "key", "d")
        assert len(redis.round_trips) == sent
        redis.hangs = set()
        async with asyncio.timeout(5):
            while calls.problem is not None:
                await asyncio.sleep(0.01)
        assert await calls.run("script", "key", "e") == "e"
        await calls.close()

    asyncio.run(scenario())


@pytest.mark.usefixtures("quick")
def test_a_hanging_master_delays_no_calls_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "master_of", lambda _, key: key[0])
    asked_last: list[str] = []

    async def find_masters(_: object, failed: str) -> None:
        asked_last.append(failed)

    monkeypatch.setattr(sessions, "find_masters", find_masters)

    async def scenario() -> None:
        redis = FakeRedis()
        redis.hangs = {"x1"}
        calls = ScriptBatcher(redis)
        hanging = asyncio.create_task(calls.run("script", "x1", "a"))
        await asyncio.sleep(0)
        assert await calls.run("script", "y1", "b") == "b"
        assert not hanging.done()
        with pytest.raises(UnavailableError):
            await hanging
        with pytest.raises(UnavailableError):
            await calls.run("script", "x2", "c")
        assert await calls.run("script", "y2", "d") == "d"
        await calls.close()

    asyncio.run(scenario())
    assert set(asked_last) == {"x"}
