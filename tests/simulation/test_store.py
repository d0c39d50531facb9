"""The simulated store keeps the contract of every store, and breaks what faults break."""

import asyncio
from collections.abc import Iterator
from contextvars import copy_context
from random import Random
from typing import Any

import pytest

from botify.streams.store.protocol import Changes, Outcome, Store
from tests.simulation import faults
from tests.simulation.faults import Fault, Faults
from tests.simulation.history import History
from tests.simulation.invariants import Invariants
from tests.simulation.loop import SimulatedLoop
from tests.simulation.redis_network import RedisClient, RedisNetwork, RedisServer
from tests.simulation.store import SimulatedStore, StoreNetwork, StoreServer
from tests.store_contract import StoreContract


class Unchecked(Invariants):
    def check_apply(self, *_: object, **named: object) -> None:
        """Check nothing."""


def store_with(loop: SimulatedLoop, *kinds: str) -> SimulatedStore:
    active = Faults([Fault(0.0, kind, 1000.0, 0) for kind in kinds], Random(2))
    server = StoreServer(History(loop.time), Unchecked([], None, []))
    return SimulatedStore(StoreNetwork(loop, server, active, Random(1), copy_context()))


@pytest.fixture
def simulated() -> Iterator[SimulatedLoop]:
    loop = SimulatedLoop(Random(0))
    yield loop
    loop.close()


class TestSimulatedStore(StoreContract):
    @pytest.fixture
    def run(self, simulated: SimulatedLoop) -> Any:
        return simulated.run_until_complete

    @pytest.fixture
    def store(self, simulated: SimulatedLoop) -> SimulatedStore:
        return store_with(simulated)


def redis_with(loop: SimulatedLoop, script_arguments: int, *kinds: str) -> RedisClient:
    active = Faults([Fault(0.0, kind, 1000.0, 0) for kind in kinds], Random(2))
    server = RedisServer(
        History(loop.time),
        Unchecked([], None, []),
        Random(3),
        lambda: active.strikes(faults.STORE_REFUSES, loop.time()),
    )
    return RedisNetwork(loop, server, active, Random(1), copy_context()).client("test", script_arguments)


@pytest.mark.parametrize("kind", [None, faults.STORE_REFUSES])
@pytest.mark.parametrize("script_arguments", [0, 1000], ids=["transactions", "scripts"])
class TestSimulatedRedis(StoreContract):
    """The shipped store, scripts and client of redis-py, on the simulated server and network."""

    @pytest.fixture
    def run(self, simulated: SimulatedLoop) -> Any:
        return simulated.run_until_complete

    @pytest.fixture
    def store(self, simulated: SimulatedLoop, script_arguments: int, kind: str | None) -> Store:
        return redis_with(simulated, script_arguments, *([kind] if kind else [])).store("botify.live")


def test_a_late_copy_of_a_claim_fences_its_own_owner(simulated: SimulatedLoop) -> None:
    store = store_with(simulated, faults.STORE_DUPLICATES)

    async def claims() -> Outcome:
        for partition in range(10):
            claim = await store.claim(partition, "a", "t")
            await asyncio.sleep(20)
            if (outcome := await store.apply(partition, claim, None, 1, Changes())) is Outcome.FENCED:
                return outcome
        return Outcome.APPLIED

    assert simulated.run_until_complete(claims()) is Outcome.FENCED
