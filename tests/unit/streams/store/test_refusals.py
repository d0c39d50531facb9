"""Invariant: a write that Redis refuses is tried again for a while, and whoever asks is told so."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
from redis.exceptions import OutOfMemoryError, ResponseError

from botify.streams.folds.projection import Changes
from botify.streams.store.connect import LONGEST_PAUSE_S, PATIENCE_S, Writes, WritesRefusedError, patiently, refusal_of
from botify.streams.store.protocol import Claim, MemoryStore, Outcome

FULL = OutOfMemoryError("command not allowed when used memory > 'maxmemory'. script: on @user_script:4.")
NOTHING = Changes(hashes={})


class FullStore(MemoryStore):
    """Refuses so many writes."""

    def __init__(self, refuses: int, error: Exception = FULL) -> None:
        super().__init__()
        self.refuses = refuses
        self.error = error

    async def claim(self, partition: int, owner: str, topic_id: str) -> Claim:
        self._take()
        return await super().claim(partition, owner, topic_id)

    async def apply(
        self, partition: int, claim: Claim, expected_next: int | None, new_next: int, changes: Changes
    ) -> Outcome:
        self._take()
        return await super().apply(partition, claim, expected_next, new_next, changes)

    def _take(self) -> None:
        if self.refuses > 0:
            self.refuses -= 1
            raise self.error


class Waits:
    """A clock that goes on where somebody sleeps; `seen` is what a probe says meanwhile."""

    def __init__(self, probe: Callable[[], str | None]) -> None:
        self.now_s = 0.0
        self.pauses: list[float] = []
        self.seen: set[str | None] = set()
        self._probe = probe

    def clock(self) -> float:
        return self.now_s

    async def sleep(self, pause_s: float) -> None:
        self.pauses.append(pause_s)
        self.seen.add(self._probe())
        self.now_s += pause_s
        await asyncio.sleep(0)


Patience = Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]


def patient() -> tuple[Patience, Writes, Waits]:
    writes = Writes()
    waits = Waits(writes.problem)
    return partial(patiently, None, writes=writes, clock=waits.clock, sleep=waits.sleep), writes, waits


def test_claims_and_applies_wait_until_redis_takes_them(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        store = FullStore(3)
        patience, writes, waits = patient()
        claim = await patience(lambda: store.claim(0, "me", "id"))
        store.refuses = 2
        assert await patience(lambda: store.apply(0, claim, None, 5, NOTHING)) is Outcome.APPLIED
        assert waits.seen == {refusal_of(FULL)}
        assert writes.problem() is None
        assert writes.refused == 5
        assert waits.pauses[:3] == [0.1, 0.2, 0.4]

    asyncio.run(main())
    assert [record.levelno for record in caplog.records] == [logging.ERROR, logging.ERROR]


def test_patience_has_an_end_that_says_what_to_do() -> None:
    async def main() -> None:
        store, (patience, writes, waits) = FullStore(10**6), patient()
        with pytest.raises(WritesRefusedError, match=r"for 20 s: raise `maxmemory`.*resumes from its checkpoint"):
            await patience(lambda: store.claim(0, "me", "id"))
        assert PATIENCE_S <= waits.now_s <= PATIENCE_S + LONGEST_PAUSE_S
        assert writes.refused == len(waits.pauses) + 1
        assert writes.problem() is not None

    asyncio.run(main())


def test_another_error_is_not_waited_for() -> None:
    async def main() -> None:
        store, (patience, writes, waits) = FullStore(1, ResponseError("WRONGTYPE")), patient()
        with pytest.raises(ResponseError):
            await patience(lambda: store.claim(0, "me", "id"))
        assert (waits.pauses, writes.problem()) == ([], None)

    asyncio.run(main())


def test_a_partition_that_is_taken_away_meanwhile_is_no_problem_any_more() -> None:
    async def main() -> None:
        writes, store = Writes(), FullStore(10**6)
        waiting = asyncio.create_task(patiently(None, lambda: store.claim(0, "me", "id"), writes=writes))
        await asyncio.sleep(0)
        assert writes.problem() is not None
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert writes.problem() is None

    asyncio.run(main())
