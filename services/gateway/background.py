"""Work beside the requests."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Coroutine
from typing import Any

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
        log.critical("background work failed; the gateway ends", exc_info=error)
        signal.raise_signal(signal.SIGTERM)
