"""Folding listen by listen until the code that folds columns is compiled, and where it cannot be."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import cache

from botify.core.kafka.column_fetch import fetch_columns
from botify.core.numba_cache import give_back_compiler, use_own_cache
from botify.streams.worker.folding import BY_LISTEN, Folding

log = logging.getLogger(__name__)


class ColumnsWhenCompiled:
    """Returns `BY_LISTEN` until a thread has compiled the code; then calls `on_ready`, and returns columns."""

    def __init__(self, on_ready: Callable[[], object] = int) -> None:
        self._folding = BY_LISTEN
        self._on_ready = on_ready
        self._decided = threading.Event()
        threading.Thread(target=self._compile, name="compile", daemon=True).start()

    def __call__(self) -> Folding:
        """Return the fastest folding that is ready."""
        return self._folding

    def wait(self, timeout_s: float) -> None:
        """Return when the code is compiled, or cannot be, or after the timeout."""
        self._decided.wait(timeout_s)

    def _compile(self) -> None:
        try:
            use_own_cache()
            from botify.streams.worker.by_columns import BY_COLUMNS, compile_all

            compile_all()
            give_back_compiler()
            self._on_ready()
        except (ImportError, RuntimeError, OSError) as error:  # no numba, or no place for its cache
            log.warning("listens are folded one by one, several times slower: %s", error)
        else:
            self._folding = BY_COLUMNS
            log.info("listens are folded in columns from now on")
        finally:
            self._decided.set()


MANY_RECORDS = 100_000
READ_S = 5.0  # longer than reading the cache takes


def columns_when_compiled(records: int) -> Callable[[], Folding]:
    """Return the one `ColumnsWhenCompiled` of a process that folds offline, which then also fetches columns.

    For many records it waits for code that is in the cache: meanwhile they would be folded at many times the cost.
    """
    folding = _of_process()
    if records > MANY_RECORDS:
        folding.wait(READ_S)
    return folding


@cache
def _of_process() -> ColumnsWhenCompiled:
    return ColumnsWhenCompiled(on_ready=fetch_columns)
