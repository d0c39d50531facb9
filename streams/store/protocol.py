"""The store's contract: claim a partition, read, apply. What exactly-once rests on.

A partition's state and its checkpoint (the next offset to be folded) change together or not at all. A worker
*claims* a partition, which raises its epoch and tells the worker where to go on; *applies* batches under that epoch;
and learns from the outcome of an apply what has happened to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from streams.folds.projection import Changes


class Outcome(Enum):
    """What came of an apply."""

    APPLIED = "applied"
    """State and checkpoint have moved."""
    ALREADY = "already"
    """The store is at the new checkpoint already (the reply to an earlier try was lost). Go on."""
    FENCED = "fenced"
    """Another claim has been made since. Nothing was written; drop the partition's state."""
    ROLLED_BACK = "rolled_back"
    """The checkpoint is not where this worker left it: the store lost writes. Nothing was written; claim anew."""

    @property
    def lost(self) -> bool:
        """Whether the worker's memory no longer is what the store goes on from."""
        return self in (Outcome.FENCED, Outcome.ROLLED_BACK)


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's right to write a partition.

    Attributes
    ----------
    epoch : int
        Grows with every claim of the partition.
    owner : str
        Who claimed it. Two workers may hold one epoch number after the store was rolled back; never the same owner.
    next_offset : int | None
        Where to go on; None where the partition has no state yet.
    topic_id : str | None
        Id of the topic that the state was derived from.
    """

    epoch: int
    owner: str
    next_offset: int | None
    topic_id: str | None


@dataclass(frozen=True, slots=True)
class ClaimPosition:
    """Where a worker believes a partition to be.

    Attributes
    ----------
    claim : Claim
    checkpoint : int | None
        What the claim found, or the last apply left.
    """

    claim: Claim
    checkpoint: int | None

    def check(self, epoch: int, owner: str, checkpoint: int | None) -> None:
        """Raise `ClaimLostError` unless the store is there too.

        Examples
        --------
        >>> ClaimPosition(Claim(1, "me", None, "t"), 7).check(2, "you", 7)
        Traceback (most recent call last):
        streams.store.protocol.ClaimLostError: FENCED
        """
        if (epoch, owner) != (self.claim.epoch, self.claim.owner):
            raise ClaimLostError(Outcome.FENCED)
        if checkpoint != self.checkpoint:
            raise ClaimLostError(Outcome.ROLLED_BACK)


class ClaimLostError(Exception):
    """The store is not where the reader believes it to be; what was read does not go with what it has in memory.

    Attributes
    ----------
    outcome : Outcome
        FENCED or ROLLED_BACK.
    """

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.name)
        self.outcome = outcome


class Store(Protocol):
    """State of the partitions of one namespace."""

    async def claim(self, partition: int, owner: str, topic_id: str) -> Claim:
        """Raise the partition's epoch and return where to go on.

        `topic_id` is recorded where the partition has none; the caller compares it where it has.
        """

    async def read_whole(
        self, partition: int, hashes: Sequence[str], score_sets: Sequence[str], under: ClaimPosition | None = None
    ) -> tuple[dict[str, dict[bytes, bytes]], dict[str, dict[bytes, float]]]:
        """Return whole collections, in one round trip.

        A worker reads `under` its position. Where the store is elsewhere, what it holds is ahead of the worker's memory
        or behind it; folded together, the two would be neither.

        Raises
        ------
        ClaimLostError
            The store is not at that position.
        """

    async def read_fields(
        self, partition: int, wanted: Mapping[str, Sequence[bytes]], under: ClaimPosition | None = None
    ) -> dict[str, dict[bytes, bytes | None]]:
        """Return fields of hashes, in one round trip; `under` a position as in `read_whole`."""

    async def apply(
        self, partition: int, claim: Claim, expected_next: int | None, new_next: int, changes: Changes
    ) -> Outcome:
        """Write the changes and move the checkpoint from `expected_next` to `new_next`, or do neither.

        `expected_next` is None for the first apply to a partition without state, and only for that: a store that
        was rolled back to the time before its first apply must not look like the one this worker left.
        """
