"""What a learner counts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from schemas.errors import rejection_classes
from streams.store.protocol import Outcome


@dataclass(slots=True)
class Counters:
    """What a learner has done since it started."""

    listens: int = 0
    batches: int = 0
    rejected: dict[str, int] = field(default_factory=lambda: dict.fromkeys(rejection_classes(), 0))
    """Dead letters, by the class of their reason."""
    snapshots: int = 0
    missed: int = 0
    fenced: int = 0
    rolled_back: int = 0

    @property
    def dead_letters(self) -> int:
        """All of `rejected`."""
        return sum(self.rejected.values())

    def described(self) -> Iterable[tuple[str, str, int]]:
        """Return name, documentation and value of each, for metrics."""
        return (
            ("listens", "Listens that were learned from.", self.listens),
            ("batches", "Training batches that were folded, copies included.", self.batches),
            ("snapshots", "Snapshots of models that were published.", self.snapshots),
            ("missed", "Offsets of the listens topic that no training batch has brought.", self.missed),
        )

    def count(self, outcome: Outcome) -> Outcome:
        """Count an outcome that ends a claim, and return it."""
        if outcome is Outcome.FENCED:
            self.fenced += 1
        elif outcome is Outcome.ROLLED_BACK:
            self.rolled_back += 1
        return outcome
