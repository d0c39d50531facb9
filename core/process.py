"""Concerns of a whole process: signals, the garbage collector, background tasks."""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import gc
import logging
import signal
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

T = TypeVar("T")
StopRequested = Callable[[], bool]


@contextmanager
def stop_requested(*signals: signal.Signals) -> Iterator[StopRequested]:
    """Yield a function that says whether one of the signals was received; a second signal has its former effect.

    Only the main thread receives signals; in another thread the function always returns False.

    Examples
    --------
    >>> with stop_requested(signal.SIGINT) as stopping:
    ...     before = stopping()
    ...     signal.raise_signal(signal.SIGINT)
    ...     before, stopping()
    (False, True)
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = {number: signal.getsignal(number) for number in signals}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def ask(*_: object) -> None:
        asked.set()
        restore()

    for number in signals:
        signal.signal(number, ask)
    try:
        yield asked.is_set
    finally:
        restore()


@contextmanager
def signals_held() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM take effect at the end of the block; one that is ignored stays so, for children too.

    Examples
    --------
    >>> try:
    ...     with signals_held():
    ...         signal.raise_signal(signal.SIGINT)
    ...         print("in the block")
    ... except KeyboardInterrupt:
    ...     print("after it")
    in the block
    after it
    """
    came: list[int] = []
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():  # others run no handlers
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) not in (None, signal.SIG_IGN):
                before[number] = signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for held, handler in before.items():
            signal.signal(held, handler)
        for arrived in came:
            if callable(handler := before[arrived]):
                handler(arrived, None)
            else:
                signal.raise_signal(arrived)


def end_within(seconds: float) -> None:
    """End the process with status 1 if it still runs after that time, and write where each thread was.

    A thread without Python does this: it also ends a process that holds the interpreter's lock, or waits for a thread.
    """
    faulthandler.dump_traceback_later(seconds, exit=True)


async def in_daemon_thread(work: Callable[[], T]) -> T:
    """Run blocking work in a thread that, unlike one of `asyncio.to_thread`, does not keep the process from ending."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(settled: Callable[[Any], None], value: object) -> None:
        if not done.done():
            settled(value)

    def run() -> None:
        settled: Callable[[Any], None] = done.set_result
        value: object
        try:
            value = work()
        except Exception as error:  # noqa: BLE001 - raised where the work is awaited
            settled, value = done.set_exception, error
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, settled, value)

    threading.Thread(target=run, name="blocking-work", daemon=True).start()
    return await done


_M_MMAP_THRESHOLD = -3
LARGE_BYTES = 1024 * 1024


def tune_gc() -> None:
    """Tune the garbage collector for throughput: events hold no cycles, and searching them took 10 % of the time."""
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)


def return_large_blocks() -> None:
    """Make glibc return each block of more than `LARGE_BYTES` to the system when it is freed.

    By default glibc raises this limit to the size of freed blocks, up to 32 MiB. Then a batch's buffers come from the
    heap, and long-lived small objects between them fragment it: a sixth of a worker's memory.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)


log = logging.getLogger(__name__)


def in_background(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Start a background task; if it fails, the process ends as on SIGTERM, and its supervisor starts another."""
    task = asyncio.create_task(work)
    task.add_done_callback(_end_where_it_failed)
    return task


async def gather_or_cancel(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Do works at the same time, and return their results in order; if one fails, end the others and raise its error.

    Examples
    --------
    >>> asyncio.run(gather_or_cancel(asyncio.sleep(0, number) for number in range(3)))
    [0, 1, 2]
    """
    tasks = [asyncio.create_task(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


async def stop(*tasks: asyncio.Task[None]) -> None:
    """Cancel tasks and wait for their end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _end_where_it_failed(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("a background task failed; the gateway stops", exc_info=error)
        signal.raise_signal(signal.SIGTERM)
