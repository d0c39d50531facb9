"""One universe: a seed names its topic, faults and orders. It runs to its end, or to the first violation."""

from __future__ import annotations

import asyncio
import gc
import logging
import uuid
from collections.abc import Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import cache, partial
from random import Random
from typing import Any
from unittest import mock

from redis.exceptions import RedisError

from core.errors import PublishError
from core.kafka.publisher import RecordPublisher
from core.numba_cache import use_own_cache
from streams.learner import learner
from streams.learner import partition as learner_partition
from streams.store.connect import WritesRefusedError, patiently
from streams.store.redis_store import SCRIPT_ARGUMENTS
from streams.worker import partition_manager
from streams.worker.folding import BY_LISTEN, Folding, by_listen
from tests.simulation import faults
from tests.simulation.faults import FAULTS_UNTIL_S, Fault, Faults, planned
from tests.simulation.group import Group
from tests.simulation.history import History
from tests.simulation.invariants import Invariants
from tests.simulation.kafka import Kafka, SimulatedProducer
from tests.simulation.learner import (
    CHECKPOINT_LISTENS,
    SNAPSHOT_LEAST,
    TRAINING_ID,
    TRAINING_NAME,
    SmallLearner,
    TrainingLog,
)
from tests.simulation.loop import Process, SimulatedLoop, State, StuckError
from tests.simulation.redis_network import RedisNetwork, RedisServer
from tests.simulation.store import StoreNetwork, StoreServer, StoreUnavailableError
from tests.simulation.topic import LAST_RECORDS_S, NAME, TOPIC_ID, TOPICS, topic
from tests.simulation.worker import SimulatedApp, SimulatedLearner, SimulatedWorker, StoreClient

WORKERS, LEARNERS = 3, 2
LEARNERS_SHARE = 0.25
"""Of universes that have learners."""
RESTART_S = 1.0
REDIS_SHARE = 0.25
"""Of universes whose store is Redis, under the shipped clients; their store is in memory otherwise."""
COLUMNS_SHARE = 0.25
"""Of universes that fold in columns, from their beginning or some time on."""
MAY_END_A_PROCESS = (PublishError, StoreUnavailableError, WritesRefusedError, RedisError)
"""Errors with which a process may end, to be started again; others show a bug: nothing else goes wrong here."""
SETTLED_WITHIN_S = 120.0
"""After the last record, which comes after the last fault."""
STOPPED_WITHIN_S = 60.0
POLL_S = 2.0


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a universe.

    Attributes
    ----------
    seed : int
    faults : sequence of Fault
    violations : sequence of str
        Empty if everything held.
    virtual_s : float
    history : History
    """

    seed: int
    faults: Sequence[Fault]
    violations: Sequence[str]
    virtual_s: float
    history: History


def plan_of(seed: int) -> Sequence[Fault]:
    """Return the faults of a universe."""
    return planned(Random(f"{seed} faults"), WORKERS + LEARNERS)


def run_universe(seed: int, planned_faults: Sequence[Fault] | None = None) -> Result:
    """Run a universe, with all of its faults or only these."""
    universe = Universe(seed, plan_of(seed) if planned_faults is None else planned_faults)
    owners = Random(f"{seed} owners")

    def owner() -> uuid.UUID:
        return uuid.UUID(int=owners.getrandbits(128))

    producer = partial(SimulatedProducer, universe.kafka)
    logging.disable(logging.CRITICAL)
    gc.disable()  # the tasks of a crashed process would end at a moment that no seed chooses
    try:
        with (
            mock.patch.dict(RecordPublisher.__init__.__kwdefaults__, connect=producer),
            mock.patch.object(learner_partition, "Learner", SmallLearner),
            mock.patch.object(learner_partition, "CHECKPOINT_LISTENS", CHECKPOINT_LISTENS),
            mock.patch.object(learner, "SNAPSHOT_LEAST", SNAPSHOT_LEAST),
            mock.patch.object(uuid, "uuid4", owner),
            mock.patch.dict(patiently.__kwdefaults__, clock=universe.now_s),
            mock.patch.object(partition_manager, "HELD_BYTES", universe.held_bytes),
        ):
            return universe.run()
    finally:
        gc.enable()
        logging.disable(logging.NOTSET)


@cache
def by_columns() -> Folding:
    """Return the folding in columns, compiled."""
    use_own_cache()
    from streams.worker.by_columns import BY_COLUMNS, compile_all

    compile_all()
    return BY_COLUMNS


def _folding(rng: Random, loop: SimulatedLoop) -> Callable[[], Folding]:
    """Return a worker's way to fold: by listen, or in columns from some time on."""
    since_s = rng.choice([0.0, rng.uniform(0.0, FAULTS_UNTIL_S)])
    if rng.random() >= COLUMNS_SHARE:
        return by_listen
    return lambda: by_columns() if loop.time() >= since_s else BY_LISTEN


@dataclass(slots=True)
class _Slot:
    """A place of a process, whose incarnations follow one another."""

    name: str
    incarnation: int = 0
    process: Process = field(default_factory=lambda: Process("none"))
    app: SimulatedApp | None = None
    body: asyncio.Task[BaseException | None] | None = None


class Universe:
    """Everything in it, and the plan that makes its faults happen."""

    def __init__(self, seed: int, planned_faults: Sequence[Fault]) -> None:
        rng = Random(f"{seed} universe")
        self.seed = seed
        self.planned = planned_faults
        self.held_bytes = rng.choice([300, 1_000, partition_manager.HELD_BYTES])
        self._logs = topic(seed % TOPICS)
        self._loop = loop = SimulatedLoop(Random(f"{seed} order"), rng.choice([0.0, 0.1, 0.5, 1.0]))
        self._context = copy_context()
        self._history = History(loop.time)
        self._learners = LEARNERS if rng.random() < LEARNERS_SHARE else 0
        violations: list[str] = []
        self._training = TrainingLog(self._history, self._logs, violations) if self._learners else None
        self._invariants = Invariants(self._logs, self._training, violations)
        active = Faults(planned_faults, Random(f"{seed} strikes"))
        accept = self._invariants.accepted_by_topic()
        self.kafka = Kafka(loop, active, Random(f"{seed} kafka"), self._history, self._context, accept)
        self._groups = {"w": Group(self.kafka, NAME, TOPIC_ID, self._logs)}
        if self._training is not None:
            self._groups["l"] = Group(self.kafka, TRAINING_NAME, TRAINING_ID, [self._training])
        self._server, self._client_of, self._close_network = self._store(rng, active)
        self._folding = _folding(rng, loop)
        self._slots = [_Slot(f"w{n}") for n in range(WORKERS)] + [_Slot(f"l{n}") for n in range(self._learners)]
        self._saved: dict[Fault, Any] = {}
        self._processes: list[Process] = []
        self._stopping = False

    def _store(
        self, rng: Random, active: Faults
    ) -> tuple[StoreServer | RedisServer, Callable[[str, bool], StoreClient], Callable[[], None]]:
        """Return the store's server, a maker of clients, and how to close them: in memory, or as Redis."""
        of = Random(f"{self.seed} store")
        if rng.random() >= REDIS_SHARE:
            server = StoreServer(self._history, self._invariants)
            network = StoreNetwork(self._loop, server, active, of, self._context)
            return server, lambda name, of_learner: network.client(name, of_learner=of_learner), network.close
        redis = RedisServer(
            self._history, self._invariants, of, lambda: active.strikes(faults.STORE_REFUSES, self._loop.time())
        )
        links = RedisNetwork(self._loop, redis, active, of, self._context)
        script_arguments = rng.choice([0, 60, SCRIPT_ARGUMENTS])
        return redis, lambda name, learner: links.client(name, script_arguments, of_learner=learner), links.close

    def run(self) -> Result:
        """Run to the end."""
        violations = self._invariants.violations
        try:
            self._loop.run_until_complete(self._main())
        except StuckError as stuck:
            violations.append(str(stuck))
        virtual_s = self._loop.time()
        violations += self._loop.errors
        self._close_network()
        self._loop.end([task for process in self._processes for task in process.tasks])
        return Result(self.seed, self.planned, tuple(violations), virtual_s, self._history)

    async def _main(self) -> None:
        expiries = [self._loop.create_task(group.expire_members()) for group in self._groups.values()]
        for slot in self._slots:
            self._start(slot)
        for at_s, act in self._schedule():
            await self._sleep_until(at_s)
            act()
        await self._sleep_until(LAST_RECORDS_S)
        give_up = LAST_RECORDS_S + SETTLED_WITHIN_S
        while not self._settled() and self._loop.time() < give_up and not self._broken:
            await asyncio.sleep(POLL_S)
        if not self._broken:
            for log in self._logs:
                p = log.partition
                self._invariants.at_end(p, self._server.checkpoint(p), self._server.contents(p))
            if self._training is not None:
                self._training.at_end(self._server.learned_to())
        if not self._broken:
            await self._stop()
        for expiry in expiries:
            expiry.cancel()

    def now_s(self) -> float:
        """Return the virtual time."""
        return self._loop.time()

    @property
    def _broken(self) -> bool:
        return bool(self._invariants.violations or self._loop.errors)

    def _settled(self) -> bool:
        folded = all(self._server.checkpoint(log.partition) == log.end for log in self._logs)
        return folded and (self._training is None or self._server.learned_to() == self._training.end)

    async def _sleep_until(self, at_s: float) -> None:
        while self._loop.time() < at_s and not self._broken:
            await asyncio.sleep(min(POLL_S, at_s - self._loop.time()))

    # ---- faults ----

    def _schedule(self) -> list[tuple[float, partial[None]]]:
        """Return what the plan does, in order of time."""
        acts = [(FAULTS_UNTIL_S, partial(self._history.note, "plan", "no more faults"))]
        for fault in self.planned:
            acts.append((fault.at_s, partial(self._begin, fault)))
            if fault.kind in (faults.ROLLBACK, faults.SWAP):
                acts.append((fault.at_s - fault.lasts_s, partial(self._save, fault)))
            elif fault.kind == faults.PAUSE:
                acts.append((fault.at_s + fault.lasts_s, partial(self._resume, fault)))
        return sorted(acts, key=lambda act: act[0])

    def _save(self, fault: Fault) -> None:
        self._saved[fault] = self._server.save()

    def _begin(self, fault: Fault) -> None:
        self._history.note("plan", str(fault))
        slot = self._slots[fault.worker % len(self._slots)]
        match fault.kind:
            case faults.CRASH if slot.process.state is not State.DEAD:
                self._loop.kill(slot.process)
                self._loop.call_later(fault.lasts_s, self._start, slot, context=self._context)
            case faults.PAUSE:
                self._loop.pause(slot.process)
            case faults.REBALANCE:
                for group in self._groups.values():
                    group.rebalance()
            case faults.ROLLBACK:
                self._server.roll_back(self._saved[fault])
            case faults.SWAP:
                self._server.swap(self._saved[fault], f"n{fault.at_s * 1000:.0f}")

    def _resume(self, fault: Fault) -> None:
        self._loop.resume(self._slots[fault.worker % len(self._slots)].process)

    # ---- workers ----

    def _start(self, slot: _Slot) -> None:
        slot.incarnation += 1
        name, of_learner = f"{slot.name}.{slot.incarnation}", slot.name.startswith("l")
        slot.process = Process(name)
        self._processes.append(slot.process)
        group, client = self._groups[slot.name[0]], self._client_of(name, of_learner)
        slot.app = (
            SimulatedLearner(slot.process, group, client, self._history)
            if of_learner
            else SimulatedWorker(slot.process, group, client, self._history, self._folding)
        )
        self._history.note(name, "starts")
        slot.body = self._loop.create_task(slot.app.run(), context=slot.process.context())
        slot.body.add_done_callback(partial(self._on_end, slot), context=self._context)

    def _on_end(self, slot: _Slot, body: asyncio.Task[BaseException | None]) -> None:
        error = body.exception() or body.result()
        self._history.note(slot.process.name, f"ends: {error!r}")
        if error is not None and not isinstance(error, MAY_END_A_PROCESS):
            self._invariants.violations.append(f"{slot.process.name} ends with {error!r}")
        left = sorted(task.get_name() for task in slot.process.unfinished)
        if left and error is None:  # what failed ends with its process, and tasks of it with that
            self._invariants.violations.append(f"{slot.process.name} ended with tasks left: {', '.join(left)}")
        self._loop.kill(slot.process)
        if not self._stopping:
            self._loop.call_later(RESTART_S, self._start, slot, context=self._context)

    async def _stop(self) -> None:
        """Stop all workers as SIGTERM does; each ends with no task left."""
        self._stopping = True
        give_up = self._loop.time() + STOPPED_WITHIN_S
        for slot in self._slots:
            if slot.app is not None:
                slot.app.stopping.set()
        while not all(slot.body is None or slot.body.done() for slot in self._slots):
            if self._loop.time() >= give_up:
                left = [slot.process.name for slot in self._slots if slot.body and not slot.body.done()]
                self._invariants.violations.append(f"do not stop: {', '.join(left)}")
                return
            await asyncio.sleep(POLL_S)
