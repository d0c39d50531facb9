"""How a process through which events go by the million treats what they leave behind."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress

_M_MMAP_THRESHOLD = -3
LARGE_BYTES = 1024 * 1024


def collect_seldom() -> None:
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
