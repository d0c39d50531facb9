"""The loop: virtual time, an order that the seed chooses, processes that crash and pause."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

import pytest

from tests.simulation.loop import Process, SimulatedLoop, StuckError


def run(main: Callable[[SimulatedLoop], Awaitable[object]], seed: int = 0, disorder: float = 1.0) -> SimulatedLoop:
    loop = SimulatedLoop(Random(seed), disorder)

    async def body() -> None:
        await main(loop)

    loop.run_until_complete(body())
    return loop


def test_jobs_of_threads_run_in_the_loop_and_take_virtual_time() -> None:
    async def main(loop: SimulatedLoop) -> None:
        assert await asyncio.to_thread(lambda: 6 * 7) == 42
        await asyncio.to_thread(loop.spend, 7.0)
        assert loop.time() >= 7.0
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 / 0)
        async with asyncio.timeout(1):
            await asyncio.sleep(0.5)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await asyncio.to_thread(loop.spend, 5.0)

    run(main)


def test_a_killed_process_runs_nothing_more_and_a_paused_one_catches_up() -> None:
    seen: list[str] = []

    async def body(name: str) -> None:
        try:
            for _ in range(3):
                await asyncio.sleep(1)
                seen.append(f"{name} {asyncio.get_running_loop().time():g}")
        finally:
            seen.append(f"{name} ended")

    async def main(loop: SimulatedLoop) -> None:
        dead, paused = Process("dead"), Process("paused")
        for process in (dead, paused):
            loop.create_task(body(process.name), context=process.context())
        await asyncio.sleep(1.5)
        loop.kill(dead)
        loop.pause(paused)
        await asyncio.sleep(10)
        assert len(dead.unfinished) == len(paused.unfinished) == 1
        loop.resume(paused)
        await asyncio.sleep(10)
        assert not paused.unfinished
        loop.close()

    run(main)
    assert sorted(seen[:2]) == ["dead 1", "paused 1"]
    assert seen[2:5] == ["paused 11.5", "paused 12.5", "paused ended"]


def test_a_run_that_cannot_end_is_an_error() -> None:
    with pytest.raises(StuckError, match="nothing is scheduled"):
        run(lambda loop: loop.create_future())

    async def spin(_: SimulatedLoop) -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(StuckError, match="steps"):
        run(spin)
