"""Stops a stack that another process runs."""

from __future__ import annotations

from pathlib import Path

import psutil

from schemas.settings import STACK_FILE
from services.stack.identity import STOP_GRACE_S, stop_groups
from services.stack.record import StackRecord


def stop_stack(home: Path) -> bool:
    """Ask the owner to stop everything, wait, and end what is left; the data stays.

    Returns
    -------
    bool
        Whether anything ran.

    Raises
    ------
    StackError
        What runs cannot be read from the data directory.
    """
    record = StackRecord.read(home)
    if record is None:
        return False
    owner, children = record.owner.process(), record.survivors()
    if owner is not None:
        owner.terminate()
        # it stops our processes, then the servers, each within the grace
        psutil.wait_procs([owner], timeout=3 * STOP_GRACE_S)
    stop_groups(list(record.survivors().values()))
    (home / STACK_FILE).unlink(missing_ok=True)
    return owner is not None or bool(children)
