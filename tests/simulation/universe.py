"""One universe: a seed names its topic, faults and orders. It runs to its end, or to the first violation."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Sequence
from contextlib import AbstractContextManager
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any, Protocol

from tests.simulation import faults
from tests.simulation.faults import FAULTS_UNTIL_S, Fault, Faults
from tests.simulation.history import History
from tests.simulation.loop import Process, SimulatedLoop, State, StuckError
from tests.simulation.timeline import timeline
from tests.simulation.topic import LAST_RECORDS_S, TOPICS

RESTART_S = 1.0
SETTLED_WITHIN_S = 120.0
"""After the last record, which comes after the last fault."""
STOPPED_WITHIN_S = 60.0
POLL_S = 2.0


@dataclass(frozen=True, slots=True)
class Result:
    seed: int
    faults: Sequence[Fault]
    violations: Sequence[str]
    virtual_s: float
    history: History


class App(Protocol):
    stopping: asyncio.Event

    async def run(self) -> BaseException | None:
        """Run until `stopping` is set or something fails; return what failed."""


@dataclass(slots=True)
class Slot:
    """A place of a process, whose incarnations follow one another."""

    name: str
    incarnation: int = 0
    process: Process = field(default_factory=lambda: Process("none"))
    app: App | None = None
    body: asyncio.Task[BaseException | None] | None = None


class Universe(ABC):
    """Processes, and the plan that makes their faults happen."""

    may_end: tuple[type[Exception], ...]

    def __init__(self, seed: int, planned_faults: Sequence[Fault], slots: Sequence[str]) -> None:
        rng = Random(f"{seed} loop")
        self.seed = seed
        self.planned = planned_faults
        self.violations: list[str] = []
        self.loop = SimulatedLoop(Random(f"{seed} order"), rng.choice([0.0, 0.1, 0.5, 1.0]))
        self.history = History(self.loop.time)
        self.active = Faults(planned_faults, Random(f"{seed} strikes"))
        self.context = copy_context()
        self.timeline = timeline(seed % TOPICS)
        self._slots = [Slot(name) for name in slots]
        self._processes: list[Process] = []
        self._stopping = False

    @property
    def parts(self) -> frozenset[str]:
        """What takes part: first letters of processes, and kinds of shipped code that only some universes have."""
        return frozenset(slot.name[0] for slot in self._slots)

    @abstractmethod
    def patches(self) -> AbstractContextManager[object]:
        """Return what stands in for modules' own while the universe runs."""

    @abstractmethod
    def app(self, slot: str, process: Process) -> App:
        """Return a new incarnation of a process."""

    @abstractmethod
    def servers(self) -> list[Coroutine[Any, Any, None]]:
        """Return what servers do beside answering, for ever."""

    @abstractmethod
    def begin(self, fault: Fault) -> None:
        """Begin a fault that is not one of a process."""

    @abstractmethod
    def settled(self) -> bool:
        """Say whether nothing is left to be done."""

    @abstractmethod
    def check_end(self) -> None:
        """Check what must hold when it is settled, or the time for it is over."""

    def save(self, fault: Fault) -> None:  # noqa: B027  # where there is a store
        """Note what a fault returns to."""

    def close(self) -> None:  # noqa: B027  # where there are connections
        """Close what is open."""

    def run(self) -> Result:
        try:
            with self.patches():
                self.loop.run_until_complete(self._main())
        except StuckError as stuck:
            self.violations.append(str(stuck))
        virtual_s = self.loop.time()
        self.violations += self.loop.errors
        self.close()
        self.loop.end([task for process in self._processes for task in process.tasks])
        return Result(self.seed, self.planned, tuple(self.violations), virtual_s, self.history)

    async def _main(self) -> None:
        servers = [self.loop.create_task(server) for server in self.servers()]
        for slot in self._slots:
            self._start(slot)
        for at_s, act in self._schedule():
            await self._sleep_until(at_s)
            act()
        await self._sleep_until(last_s := self.timeline.at(LAST_RECORDS_S))
        give_up = last_s + SETTLED_WITHIN_S
        while not self.settled() and self.loop.time() < give_up and not self._broken:
            await asyncio.sleep(POLL_S)
        if not self._broken:
            self.check_end()
        if not self._broken:
            await self._stop()
        for server in servers:
            server.cancel()

    @property
    def _broken(self) -> bool:
        return bool(self.violations or self.loop.errors)

    async def _sleep_until(self, at_s: float) -> None:
        if not self._broken:
            await asyncio.sleep(at_s - self.loop.time())

    # ---- faults ----

    def _schedule(self) -> list[tuple[float, partial[None]]]:
        acts = [(self.timeline.at(FAULTS_UNTIL_S), partial(self.history.note, "plan", "no more faults"))]
        for fault in self.planned:
            acts.append((fault.at_s, partial(self._begin, fault)))
            if fault.kind in (faults.ROLLBACK, faults.SWAP):
                acts.append((fault.at_s - fault.lasts_s, partial(self.save, fault)))
            elif fault.kind == faults.PAUSE:
                acts.append((fault.at_s + fault.lasts_s, partial(self._resume, fault)))
        return sorted(acts, key=lambda act: act[0])

    def _begin(self, fault: Fault) -> None:
        self.history.note("plan", str(fault))
        slot = self._slot_of(fault)
        if fault.kind == faults.PAUSE:
            self.loop.pause(slot.process)
        elif fault.kind == faults.STOP:
            if slot.app is not None:
                slot.app.stopping.set()
        elif fault.kind != faults.CRASH:
            self.begin(fault)
        elif slot.process.state is not State.DEAD:
            self.loop.kill(slot.process)
            self.loop.call_later(fault.lasts_s, self._start, slot, context=self.context)

    def _resume(self, fault: Fault) -> None:
        self.loop.resume(self._slot_of(fault).process)

    def _slot_of(self, fault: Fault) -> Slot:
        return self._slots[fault.process % len(self._slots)]

    # ---- processes ----

    def _start(self, slot: Slot) -> None:
        if self._stopping:
            return
        slot.incarnation += 1
        slot.process = Process(f"{slot.name}.{slot.incarnation}")
        self._processes.append(slot.process)
        slot.app = self.app(slot.name, slot.process)
        self.history.note(slot.process.name, "starts")
        slot.body = self.loop.create_task(slot.app.run(), context=slot.process.context())
        slot.body.add_done_callback(partial(self._on_end, slot), context=self.context)

    def _on_end(self, slot: Slot, body: asyncio.Task[BaseException | None]) -> None:
        error = body.exception() or body.result()
        self.history.note(slot.process.name, f"ends: {error!r}")
        if error is not None and not isinstance(error, self.may_end):
            self.violations.append(f"{slot.process.name} ends with {error!r}")
        left = sorted(task.get_name() for task in slot.process.unfinished)
        if left and error is None:  # what failed ends with its process, and tasks of it with that
            self.violations.append(f"{slot.process.name} ended with tasks left: {', '.join(left)}")
        self.loop.kill(slot.process)
        self.loop.call_later(RESTART_S, self._start, slot, context=self.context)

    async def _stop(self) -> None:
        self._stopping = True
        give_up = self.loop.time() + STOPPED_WITHIN_S
        for slot in self._slots:
            if slot.app is not None:
                slot.app.stopping.set()
        while not all(slot.body is None or slot.body.done() for slot in self._slots):
            if self.loop.time() >= give_up:
                left = [slot.process.name for slot in self._slots if slot.body and not slot.body.done()]
                self.violations.append(f"do not stop: {', '.join(left)}")
                return
            await asyncio.sleep(POLL_S)
