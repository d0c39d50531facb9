"""An asyncio event loop with a virtual clock, whose order of ready callbacks a seed chooses; and simulated processes.

Callbacks belong to the process in whose context they were scheduled. So a process crashes by dropping its callbacks,
and pauses by holding them, as SIGKILL and SIGSTOP do: no code of it runs, not even a `finally`.
"""

from __future__ import annotations

import asyncio
import heapq
import sys
from asyncio import events
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from enum import Enum, auto
from functools import partial
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")

MAX_STEPS = 200_000
"""Callbacks of a run; more are an endless loop."""
MAX_JOB_S = 0.02
"""A job of an executor starts, and its result arrives, within this time each."""


class StuckError(Exception):
    """The run does not end: nothing is left to do, or it does too much."""


class Handle:
    """A callback in the context that names its process; asyncio's own handles cost a third of a universe's time."""

    __slots__ = ("args", "callback", "context", "process", "when_s")

    def __init__(self, callback: Any, args: tuple[Any, ...], context: Context, when_s: float = 0.0) -> None:
        self.callback = callback
        self.args = args
        self.context = context
        self.process: Process | None = context.get(_PROCESS)
        self.when_s = when_s

    def cancel(self) -> None:
        self.callback = None

    def cancelled(self) -> bool:
        return self.callback is None

    def when(self) -> float:
        return self.when_s


class State(Enum):
    RUNNING = auto()
    PAUSED = auto()
    DEAD = auto()


_PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)


class Process:
    """A simulated operating-system process: its tasks, and the callbacks that it holds while it is paused."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.state = State.RUNNING
        self.held: list[Handle] = []
        self.tasks: list[asyncio.Task[Any]] = []
        """References keep tasks of a dead process from being closed, which would run their `finally`."""

    @property
    def unfinished(self) -> list[asyncio.Task[Any]]:
        return [task for task in self.tasks if not task.done()]

    def context(self) -> Context:
        context = copy_context()
        context.run(_PROCESS.set, self)
        return context


class Nap:
    """A sleep that something may end; what comes before it ends the next one."""

    def __init__(self) -> None:
        self._woken = False
        self._future: asyncio.Future[None] | None = None

    async def sleep(self, seconds: float) -> None:
        if not self._woken:
            loop = asyncio.get_running_loop()
            self._future = loop.create_future()
            timer = loop.call_later(seconds, self.wake)
            try:
                await self._future
            finally:
                timer.cancel()
        self._woken = False

    def wake(self) -> None:
        self._woken = True
        if self._future is not None and not self._future.done():
            self._future.set_result(None)


class SimulatedLoop(asyncio.AbstractEventLoop):
    """Runs callbacks one by one; time passes only when none is ready."""

    def __init__(self, rng: Random, disorder: float = 1.0) -> None:
        self._rng = rng
        self._disorder = disorder
        self._now = 0.0
        self._ready: list[Handle] = []
        self._timers: list[tuple[float, int, Handle]] = []
        self._scheduled = 0
        self._spent_s = 0.0
        self._running = self._closed = False
        self.errors: list[str] = []
        """Of callbacks; an error of a task belongs to the task."""
        self.own_tasks: list[asyncio.Task[Any]] = []
        """Tasks of no process: of the servers and the plan."""

    # ---- running ----

    def run_until_complete(self, future: Coroutine[Any, Any, T]) -> T:  # type: ignore[override]
        task: asyncio.Task[T] = self.create_task(future)
        self._running = True
        events._set_running_loop(self)
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(None, lambda _: None)  # those of a crashed process do not run their `finally`
        try:
            self._run(task)
        finally:
            sys.set_asyncgen_hooks(*hooks)
            events._set_running_loop(None)
            self._running = False
        return task.result()

    def _run(self, task: asyncio.Task[Any]) -> None:
        ready, draw, disorder, running = self._ready, self._rng.random, self._disorder, State.RUNNING
        for _ in range(MAX_STEPS):
            if task.done():
                return
            while not ready:
                self._advance()
            at = int(draw() * len(ready)) if len(ready) > 1 and disorder and draw() < disorder else 0
            handle = ready.pop(at)
            process = handle.process
            if handle.callback is None:
                continue
            if process is None or process.state is running:
                try:
                    handle.context.run(handle.callback, *handle.args)
                except Exception as error:  # noqa: BLE001  # of any kind, as asyncio's loop passes it on
                    self.errors.append(f"a callback failed: {error!r}")
            elif process.state is State.PAUSED:
                process.held.append(handle)
        raise StuckError(f"more than {MAX_STEPS:,} steps by {self._now:.3f} s")

    def _advance(self) -> None:
        timers = self._timers
        if not timers:
            raise StuckError("nothing is scheduled any more")
        self._now = now = max(self._now, timers[0][0])
        while timers and timers[0][0] <= now:
            handle = heapq.heappop(timers)[2]
            if handle.callback is not None:
                self._ready.append(handle)

    # ---- what asyncio asks of a loop ----

    def time(self) -> float:
        return self._now

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> Any:
        handle = Handle(callback, args, copy_context() if context is None else context)
        if not self._closed:
            self._ready.append(handle)
        return handle

    def call_later(self, delay: float, callback: Any, *args: Any, context: Context | None = None) -> Any:
        return self._schedule(self._now + delay if delay > 0.0 else self._now, callback, args, context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Context | None = None) -> Any:
        """Make a callback ready at a virtual time; one that is cancelled is dropped at its time."""
        return self._schedule(when, callback, args, context)

    def _schedule(self, when: float, callback: Any, args: tuple[Any, ...], context: Context | None) -> Handle:
        timer = Handle(callback, args, copy_context() if context is None else context, when)
        if not self._closed:
            self._scheduled += 1
            heapq.heappush(self._timers, (when, self._scheduled, timer))
        return timer

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Context | None = None) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name, context=context)
        process = _PROCESS.get() if context is None else context.get(_PROCESS)
        (self.own_tasks if process is None else process.tasks).append(task)
        return task

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        """Run a function without a thread: as a callback of its own, some time from now."""
        future: asyncio.Future[T] = self.create_future()

        def run() -> None:
            self._spent_s = self._rng.uniform(0.0, MAX_JOB_S)
            finish: Callable[[], None]
            try:
                finish = partial(future.set_result, func(*args))
            except Exception as error:  # noqa: BLE001  # of any kind, as an executor passes it on
                finish = partial(future.set_exception, error)
            self.call_later(self._spent_s, lambda: None if future.done() else finish())

        self.call_later(self._rng.uniform(0.0, MAX_JOB_S), run)
        return future

    def spend(self, seconds: float) -> None:
        self._spent_s += seconds

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep errors of callbacks; what the collector of garbage reports is no event of the run."""
        if "future" not in context and "task" not in context and "asyncgen" not in context:
            self.errors.append(f"{context['message']}: {context.get('exception')!r}")

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return self._running

    def is_closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        self._closed = True
        self._ready.clear()
        self._timers.clear()

    def end(self, tasks: Iterable[asyncio.Task[Any]]) -> None:
        """Close, and end the coroutines of tasks: the collector of garbage would do so, where no loop runs."""
        self.close()
        events._set_running_loop(self)
        try:
            left = [*tasks, *self.own_tasks]
            self.own_tasks.clear()
            while left := left or self._taken():
                task = left.pop()
                if not task.done() and (coroutine := task.get_coro()) is not None:
                    with suppress(BaseException):  # what a `finally` waits for, or raises
                        coroutine.close()
        finally:
            events._set_running_loop(None)

    def _taken(self) -> list[asyncio.Task[Any]]:
        taken, self.own_tasks = self.own_tasks, []  # some `finally` have made tasks
        return taken

    # ---- processes ----

    def pause(self, process: Process) -> None:
        if process.state is State.RUNNING:
            process.state = State.PAUSED

    def resume(self, process: Process) -> None:
        if process.state is State.PAUSED:
            process.state = State.RUNNING
            self._ready += process.held
            process.held.clear()

    def kill(self, process: Process) -> None:
        """End a process: none of its callbacks runs again."""
        process.state = State.DEAD
        process.held.clear()
