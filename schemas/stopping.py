"""Ctrl-C that ends a program where it can end: after a step, not in the middle of one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Stopping = Callable[[], bool]


@contextmanager
def asked_to_stop(*signals: signal.Signals) -> Iterator[Stopping]:
    """Yield a function that says whether one of the signals has come; a second one does what it did before.

    Outside of the main thread, which alone hears signals, none ever comes.

    Examples
    --------
    >>> with asked_to_stop(signal.SIGINT) as stopping:
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
