"""Invariant: after a swap every lane writes the new namespace, from its checkpoint on, and none the former one."""

from __future__ import annotations

import asyncio

from botify.streams.folds.projection import Changes
from botify.streams.store.protocol import Claim, Store
from tests.unit.streams.worker.records import run_of
from tests.unit.streams.worker.test_partition_manager import Harness, ScriptedStore, scenario


class Swap:
    """Announces one other store, once."""

    def __init__(self) -> None:
        self.store: Store | None = None

    async def look(self) -> Store | None:
        store, self.store = self.store, None
        return store


async def other_store(*checkpoints: int) -> ScriptedStore:
    store = ScriptedStore()
    for partition, offset in enumerate(checkpoints):
        claim = await store.claim(partition, "replay", "t")
        await store.apply(partition, claim, None, offset, Changes())
    store.claims.clear()
    return store


def follow(harness: Harness, swap: Swap) -> asyncio.Task[None]:
    return asyncio.create_task(harness.owned.follow_namespace(swap.look, 0.001))


def test_every_lane_goes_on_at_the_checkpoint_of_the_new_namespace() -> None:
    async def play(h: Harness) -> None:
        swap, new = Swap(), await other_store(3, 0)
        following = follow(h, swap)
        await h.owned.claim({0, 1})
        await h.owned.submit(run_of(0, 1, 2, 3, 4))
        await h.folded(5)
        swap.store = new
        await h.until(lambda: len(h.seeks) == 2)
        assert sorted(h.seeks) == [(0, 3), (1, 0)]
        assert sorted(new.claims) == [(0, 3), (1, 0)]
        await h.owned.submit(run_of(3, 4, 5))
        await h.folded(6)
        assert new.checkpoints[0].next_offset == 6
        assert h.store.checkpoints[0].next_offset == 5  # the former namespace stays as it was
        following.cancel()

    scenario(play)


def test_a_claim_that_is_under_way_moves_too() -> None:
    async def play(h: Harness) -> None:
        swap, new = Swap(), await other_store(3, 0)
        following = follow(h, swap)
        answered, claim = asyncio.Event(), h.store.claim

        async def slow(partition: int, owner: str, topic_id: str) -> Claim:
            await answered.wait()
            return await claim(partition, owner, topic_id)

        h.store.claim = slow
        claiming = asyncio.create_task(h.owned.claim({0}))
        await asyncio.sleep(0.005)  # it waits for the store by now
        swap.store = new
        await h.until(lambda: swap.store is None)
        answered.set()
        await claiming
        await h.owned.submit(run_of(0))
        await h.until(lambda: new.claims == [(0, 3)])
        await h.until(lambda: h.owned.applied()[0] == 3)
        following.cancel()

    scenario(play)
