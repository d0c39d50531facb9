"""What folding gives rise to, beside state: events for other topics, and dead letters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from schemas.events import Model, Session, TrainingBatch
from streams.worker.intake import Rejected

Emitted = Session | TrainingBatch | Model


class Emits(Protocol):
    """Sends what a run gives rise to, and returns when it is acknowledged."""

    async def emit(self, events: Sequence[Emitted], rejected: Sequence[Rejected]) -> None:
        """Send all of it."""
