"""What concerns a whole process: signals, the garbage collector, work in the background."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any

StopRequested = Callable[[], bool]


@contextmanager
def stop_requested(*signals: signal.Signals) -> Iterator[StopRequested]:
    """Yield a function that says whether one of the signals has come; a second one does what it did before.

    Outside of the main thread, which alone hears signals, none ever comes.

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


_M_MMAP_THRESHOLD = -3
LARGE_BYTES = 1024 * 1024


def tune_gc() -> None:
    """Let the collector look seldom for cycles.

    Events come and go and hold no cycles; looking for cycles among them took a tenth of the time.
    """
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)


def return_large_blocks() -> None:
    """Have glibc return each block of more than `LARGE_BYTES` to the system when it is freed.

    It does so at first, but raises the limit to the size of what is freed, up to 32 MiB. From then on a batch's buffers
    come from the heap, where small objects that stay are put between them, and leave holes: a sixth of a worker's
    memory. Without glibc this does nothing.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)


log = logging.getLogger(__name__)


def in_background(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Start work that nobody waits for.

    An error that was not foreseen ends the process as SIGTERM does: whoever supervises it starts another, and nobody
    is served by half a gateway.
    """
    task = asyncio.create_task(work)
    task.add_done_callback(_end_where_it_failed)
    return task


async def stop(*tasks: asyncio.Task[None]) -> None:
    """End work, and wait until it has ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _end_where_it_failed(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("a background task failed; the gateway stops", exc_info=error)
        signal.raise_signal(signal.SIGTERM)
