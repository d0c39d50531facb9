"""The protocol of a projection: a fold of one partition's listens, and the place of its result in the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from schemas.events import Listen

Record = tuple[int, Listen]
"""Offset and event."""

Fields = Mapping[bytes, bytes | None]
Scores = Mapping[bytes, float]
ScoreChanges = Mapping[bytes, float | None]


@dataclass(slots=True)
class Changes:
    """New absolute values: writing them twice is the same as writing them once.

    Attributes
    ----------
    hashes : dict of str to Fields
        Collection to field to value; None removes the field.
    scores : dict of str to ScoreChanges
        Collection (a sorted set) to member to score; None removes the member.
    """

    hashes: dict[str, Fields] = field(default_factory=dict)
    scores: dict[str, ScoreChanges] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return any(self.hashes.values()) or any(self.scores.values())


class Projection(Protocol):
    """A batch goes `missing` → (the caller reads) → `load` → `fold` → `changes`.

    The result must be a pure function of the partition's records in order, whatever the batches are.
    """

    hashes: Sequence[str]
    """Collections that are hashes; their fields are read when needed."""
    score_sets: Sequence[str]
    """Collections that are sorted sets; they are bounded, and read whole at the claim."""

    def missing(self, batch: Sequence[Record]) -> Mapping[str, list[bytes]]:
        """Return the fields, by collection, that the batch needs and memory lacks."""

    def load_fields(self, collection: str, values: Fields) -> None:
        """Load fields of a hash; None if the store lacks them."""

    def load_scores(self, collection: str, values: Scores) -> None:
        """Load a sorted set."""

    def fold(self, batch: Sequence[Record]) -> Sequence[Record]:
        """Fold the batch, and return the records for the next projection."""

    def changes(self) -> Changes:
        """Return what has changed since the last call."""
