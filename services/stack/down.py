"""Stops a stack that another process runs."""

from __future__ import annotations

from pathlib import Path

from schemas.settings import STACK_FILE
from services.stack.identity import STOP_GRACE_S, stop_groups, wait_until_gone
from services.stack.record import StackEnd, StackRecord


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
    StackEnd.forget(home)
    record = StackRecord.read(home)
    if record is None:
        return False
    owner, children = record.owner, list(record.processes.values())
    ran = any(process.is_alive() for process in (owner, *children))
    if (process := owner.process()) is not None:
        process.terminate()
        # it stops our processes, then the servers, each within the grace
        wait_until_gone([owner], 3 * STOP_GRACE_S)
    stop_groups(children)
    (home / STACK_FILE).unlink(missing_ok=True)
    return ran
