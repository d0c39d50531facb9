"""Calls of many requests share round trips, and each gets its own reply."""

import asyncio
from collections.abc import Sequence
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
        return [ResponseError("no") if command[-1] == "wrong" else command[-1] for command in commands]

    async def aclose(self) -> None:
        pass


@pytest.fixture(autouse=True)
def without_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripts, "pipelined", FakeRedis.pipelined)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripts, "HOLD_S", 0.0)


def run(redis: FakeRedis, *arguments: str) -> list[Any]:
    async def all_at_once() -> list[Any]:
        calls = ScriptBatcher(redis)
        done = await asyncio.gather(*(calls.run("script", "key", one) for one in arguments), return_exceptions=True)
        await calls.close()
        return done

    return asyncio.run(all_at_once())


async def test_calls_during_a_round_trip_share_the_next_one() -> None:
    redis = FakeRedis()
    calls = ScriptBatcher(redis)
    first = asyncio.create_task(calls.run("script", "key", "a"))
    async with asyncio.timeout(5):
        while not redis.round_trips:
            await asyncio.sleep(0)
    assert await asyncio.gather(*(calls.run("script", "key", one) for one in "bcd")) == list("bcd")
    assert await first == "a"
    assert await calls.run("script", "key", "e") == "e"
    assert redis.round_trips == [1, 3, 1]


def test_an_error_fails_only_its_own_call() -> None:
    good, wrong = run(FakeRedis(), "a", "wrong")
    assert good == "a"
    assert isinstance(wrong, UnavailableError)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripts, "TIMEOUT_S", 0.05)
    monkeypatch.setattr(scripts, "PROBE_EVERY_S", 0.01)


@pytest.mark.usefixtures("quick", "impatient")
async def test_calls_fail_at_once_until_redis_answers_again() -> None:
    redis = FakeRedis()
    redis.hangs = {"key"}
    calls = ScriptBatcher(redis)
    waited = [asyncio.create_task(calls.run("script", "key", "a"))]
    await asyncio.sleep(0)
    waited += [asyncio.create_task(calls.run("script", "key", one)) for one in "bc"]
    assert [type(error) for error in await asyncio.gather(*waited, return_exceptions=True)] == [UnavailableError] * 3
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


@pytest.mark.usefixtures("quick", "impatient")
def test_a_hanging_master_delays_no_calls_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripts, "master_of", lambda _, key: key[0])
    asked_last: list[str] = []

    async def find_masters(_: object, failed: str) -> None:
        asked_last.append(failed)

    monkeypatch.setattr(scripts, "find_masters", find_masters)

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


async def away_for_a_while(redis: FakeRedis, calls: ScriptBatcher) -> list[asyncio.Task[Any]]:
    """Make calls while Redis is away: one that finds out, and two that wait with it."""
    redis.away = True
    waiting = [asyncio.create_task(calls.run("script", "key", one)) for one in "abc"]
    async with asyncio.timeout(5):
        while calls.problem is None:
            await asyncio.sleep(0)
    return waiting


async def test_calls_wait_for_a_master_that_is_soon_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripts, "PROBE_EVERY_S", 0.01)
    redis = FakeRedis()
    calls = ScriptBatcher(redis)
    waiting = await away_for_a_while(redis, calls)
    waiting.append(asyncio.create_task(calls.run("script", "key", "d")))
    done, _ = await asyncio.wait(waiting, timeout=0.05)
    assert not done
    redis.away = False
    answers = await asyncio.gather(*waiting)
    await calls.close()
    assert answers == list("abcd")


async def test_calls_wait_for_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripts, "HOLD_S", 0.1)
    redis = FakeRedis()
    calls = ScriptBatcher(redis)
    waiting = await away_for_a_while(redis, calls)
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(error) for error in answers] == [UnavailableError] * 3
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
