"""The simulated store: a server that loses writes, and clients whose requests are slow, lost or made twice."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextvars import Context
from functools import partial
from typing import Any, NamedTuple, TypeVar

from botify.streams.folds.projection import Changes
from botify.streams.store.protocol import UNCLAIMED, Claim, ClaimLostError, ClaimPosition, MemoryStore, Outcome, Store
from tests.simulation import faults
from tests.simulation.faults import Faults
from tests.simulation.history import History
from tests.simulation.invariants import Invariants
from tests.simulation.loop import SimulatedLoop
from tests.simulation.topic import Contents, checkpoint_of, contents_of, finish

T = TypeVar("T")

FIRST_NAMESPACE, LEARNERS = "live", "learner.live"
COMMAND_TIMEOUT_S = 5.0
GIVE_UP_S = 20.0
FAST_S, SLOW_S, LATE_S = 0.01, 4.0, 12.0
"""The longest that a request or a reply takes: usually, while the store is slow, and for the copy of a request."""
SWALLOWING_S = 1.0
"""The same while clients swallow cancellations, so that many arrive while a reply is on its way."""


class StoreUnavailableError(Exception):
    """The store has not replied for `GIVE_UP_S`; the process ends."""


class Saved(NamedTuple):
    namespaces: Mapping[str, MemoryStore]
    newest: Mapping[tuple[str, int], Claim]
    live: str


class StoreServer:
    """Executes commands one at a time, and checks the invariants at each apply."""

    def __init__(self, history: History, invariants: Invariants) -> None:
        self.live = FIRST_NAMESPACE
        self.namespaces: dict[str, MemoryStore] = defaultdict(MemoryStore)
        self._newest: dict[tuple[str, int], Claim] = {}
        self._history = history
        self._invariants = invariants

    def claim(self, namespace: str, partition: int, owner: str, topic_id: str) -> Claim:
        claim = finish(self.namespaces[namespace].claim(partition, owner, topic_id))
        self._newest[namespace, partition] = claim
        self._note(namespace, partition, f"claim by {owner[:4]}: epoch {claim.epoch} at {claim.next_offset}")
        return claim

    def apply(
        self, namespace: str, partition: int, claim: Claim, expected: int | None, new: int, changes: Any
    ) -> Outcome:
        """Execute an apply, and check it by the claim that the server has noted."""
        store, newest = self.namespaces[namespace], self._newest.get((namespace, partition), UNCLAIMED)
        outcome = finish(store.apply(partition, claim, expected, new, changes))
        what = f"apply by {claim.owner[:4]}, epoch {claim.epoch}: {expected} to {new}: {outcome.name}"
        self._note(namespace, partition, what)
        unfenced = None
        if (claim.epoch, claim.owner) != (newest.epoch, newest.owner):
            if outcome is Outcome.FENCED:
                return outcome
            unfenced = f"{outcome.name} for epoch {claim.epoch}, the newest is {newest.epoch}"
        elif outcome is Outcome.APPLIED and expected != newest.next_offset:
            unfenced = f"applied on {newest.next_offset} what follows {expected}"
        checkpoint, contents = checkpoint_of(store, partition), contents_of(store, partition)
        if namespace == LEARNERS:
            self._invariants.check_learned(unfenced, checkpoint, contents)
        else:
            self._invariants.check_apply(partition, unfenced, checkpoint, contents)
        if outcome is Outcome.APPLIED:
            self._newest[namespace, partition] = Claim(newest.epoch, newest.owner, new, newest.topic_id)
        return outcome

    def learned_to(self) -> int:
        return checkpoint_of(self.namespaces[LEARNERS], 0)

    def checkpoint(self, partition: int) -> int:
        return checkpoint_of(self.namespaces[self.live], partition)

    def contents(self, partition: int) -> Contents:
        return contents_of(self.namespaces[self.live], partition)

    def save(self) -> Saved:
        copies = {name: _copy_of(store) for name, store in self.namespaces.items()}
        return Saved(copies, dict(self._newest), self.live)

    def roll_back(self, saved: Saved) -> None:
        self.namespaces.clear()
        self.namespaces.update((name, _copy_of(store)) for name, store in saved.namespaces.items())
        self._newest = dict(saved.newest)
        self.live = saved.live

    def swap(self, saved: Saved, name: str) -> None:
        """Make a new namespace live, which begins with what was saved of the then live one, as a replay's does."""
        self.namespaces[name] = _copy_of(saved.namespaces.get(saved.live, MemoryStore()))
        self._newest.update(((name, p), claim) for p, claim in self.namespaces[name].checkpoints.items())
        self.live = name

    def _note(self, namespace: str, partition: int, what: str) -> None:
        self._history.note("store" if namespace == FIRST_NAMESPACE else f"store {namespace}", f"p{partition} {what}")


def _copy_of(store: MemoryStore) -> MemoryStore:
    copy = MemoryStore()
    copy.hashes.update((key, dict(fields)) for key, fields in store.hashes.items())
    copy.scores.update((key, dict(scores)) for key, scores in store.scores.items())
    copy.checkpoints.update(store.checkpoints)
    return copy


class StoreNetwork:
    """Carries requests to the server and replies back; nothing of it belongs to a process."""

    def __init__(self, loop: SimulatedLoop, server: StoreServer, active: Faults, rng: Any, context: Context) -> None:
        self.server = server
        self.loop = loop
        self._active = active
        self._rng = rng
        self._context = context

    def client(self, process: str, *, of_learner: bool) -> MemoryClient:
        return MemoryClient(self, of_learner=of_learner)

    def close(self) -> None:
        """Do nothing."""

    @property
    def swallows(self) -> bool:
        return self._active.planned(faults.STORE_SWALLOWS) or self._active.planned(faults.POINTER_SWALLOWS)

    def strikes(self, kind: str) -> bool:
        return self._active.strikes(kind, self.loop.time())

    def request(self, execute: Callable[[], T], reply: asyncio.Future[T]) -> None:
        if not self.strikes(faults.STORE_LOSES_REQUESTS) and not self.strikes(faults.STORE_REFUSES):  # asked again
            self._later(self._delay_s(), lambda: self._execute(execute, reply))
        if self.strikes(faults.STORE_DUPLICATES):
            self._later(self._rng.uniform(0.0, LATE_S), lambda: self._execute(execute, reply))

    def _execute(self, execute: Callable[[], T], reply: asyncio.Future[T]) -> None:
        deliver: Callable[[], None]
        try:
            deliver = partial(reply.set_result, execute())
        except ClaimLostError as lost:
            deliver = partial(reply.set_exception, lost)
        if not self.strikes(faults.STORE_LOSES_REPLIES):
            self._later(self._delay_s(), lambda: None if reply.done() else deliver())

    def _delay_s(self) -> float:
        if self.strikes(faults.STORE_SLOW):
            most_s = SLOW_S
        else:
            swallows = self.strikes(faults.STORE_SWALLOWS) or self.strikes(faults.POINTER_SWALLOWS)
            most_s = SWALLOWING_S if swallows else FAST_S
        return float(most_s * self._rng.random())

    def _later(self, delay_s: float, act: Callable[[], None]) -> None:
        self.loop.call_later(delay_s, act, context=self._context)


class MemoryClient:
    def __init__(self, network: StoreNetwork, *, of_learner: bool = False) -> None:
        self._network = network
        self._of_learner = of_learner

    def store(self, namespace: str) -> Store:
        return SimulatedStore(self._network, namespace)

    async def live_namespace(self) -> str:
        server = self._network.server
        live = (lambda: LEARNERS) if self._of_learner else (lambda: server.live)
        return await SimulatedStore(self._network).ask(live, faults.POINTER_SWALLOWS)

    async def close(self) -> None:
        """Do nothing."""


class SimulatedStore:
    """A process's client: a `Store` of one namespace."""

    def __init__(self, network: StoreNetwork, namespace: str = FIRST_NAMESPACE) -> None:
        self._network = network
        self.namespace = namespace

    @property
    def _memory(self) -> MemoryStore:
        return self._network.server.namespaces[self.namespace]

    async def claim(self, partition: int, owner: str, topic_id: str) -> Claim:
        return await self.ask(lambda: self._network.server.claim(self.namespace, partition, owner, topic_id))

    async def read_whole(
        self, partition: int, hashes: Sequence[str], score_sets: Sequence[str], under: ClaimPosition | None = None
    ) -> tuple[dict[str, dict[bytes, bytes]], dict[str, dict[bytes, float]]]:
        return await self._read(lambda: self._memory.read_whole(partition, hashes, score_sets, under))

    async def read_fields(
        self, partition: int, wanted: Mapping[str, Sequence[bytes]], under: ClaimPosition | None = None
    ) -> dict[str, dict[bytes, bytes | None]]:
        return await self._read(lambda: self._memory.read_fields(partition, wanted, under))

    async def apply(
        self, partition: int, claim: Claim, expected_next: int | None, new_next: int, changes: Changes
    ) -> Outcome:
        server, namespace = self._network.server, self.namespace
        return await self.ask(lambda: server.apply(namespace, partition, claim, expected_next, new_next, changes))

    async def _read(self, read: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return await self.ask(lambda: finish(read()))

    async def ask(self, execute: Callable[[], T], swallows: str = faults.STORE_SWALLOWS) -> T:
        loop = self._network.loop
        give_up = loop.time() + GIVE_UP_S
        while True:
            reply: asyncio.Future[T] = loop.create_future()
            self._network.request(execute, reply)
            timer = loop.call_later(COMMAND_TIMEOUT_S, _time_out, reply)
            try:
                return await self._wait(reply, swallows)
            except TimeoutError:
                if loop.time() >= give_up:
                    raise StoreUnavailableError from None
            finally:
                timer.cancel()

    async def _wait(self, reply: asyncio.Future[T], swallows: str) -> T:
        if not self._network.swallows:
            return await reply
        try:
            return await asyncio.shield(reply)
        except asyncio.CancelledError:
            # redis-py may swallow a cancellation that arrives with a reply
            if self._network.strikes(swallows):
                await asyncio.wait([reply], timeout=SWALLOWING_S)
                if reply.done() and not reply.cancelled():
                    return reply.result()
            raise


def _time_out(reply: asyncio.Future[Any]) -> None:
    if not reply.done():
        reply.set_exception(TimeoutError())
