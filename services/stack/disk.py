"""The space that the embedded Kafka needs: a broker that starts on a full disk takes its topics for empty."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from botify.services.errors import StackError
from botify.services.stack.record import StackRecord

STOP_BYTES = 256 << 20
"""With less free space Kafka is stopped in order, before a write of its own fails."""
START_BYTES = 512 << 20
"""With less it is not started; the distance to `STOP_BYTES` keeps it from stopping again at once."""


def shortage(home: Path, needed: int = START_BYTES) -> str | None:
    """Return why Kafka may not run in a data directory; None if it may, or if the free space is not known."""
    try:
        free = shutil.disk_usage(home).free
    except OSError:
        return None
    if free >= needed:
        return None
    return (
        f"the disk of {home} has {free >> 20:,} MB free: Kafka stops below {STOP_BYTES >> 20} MB and starts with "
        f"{START_BYTES >> 20} MB, because one that starts on a full disk loses its topics. Free some space; a running "
        "stack then continues by itself, and its data is kept"
    )


def shortage_of_stack(home: Path) -> list[str]:
    """Return why the embedded Kafka of a running stack is stopped or will soon be; nothing where there is none."""
    with suppress(StackError):  # a damaged file is reported by those who need it
        record = StackRecord.read(home)
        if record is not None and "kafka" in record.processes and (found := shortage(home)):
            return [found]
    return []
