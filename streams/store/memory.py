"""The store in a dict: for unit tests and offline folds. Same contract, nothing survives."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TypeVar

from streams.folds.projection import Changes
from streams.store.protocol import Claim, ClaimPosition, Outcome

UNCLAIMED = Claim(0, "", None, None)


class MemoryStore:
    """A `Store` in memory.

    Attributes
    ----------
    hashes : dict of (partition, collection) to dict of field to value
    scores : dict of (partition, collection) to dict of member to score
    checkpoints : dict of partition to Claim
        The newest claim, with the checkpoint as `next_offset`.
    """

    def __init__(self) -> None:
        self.hashes: dict[tuple[int, str], dict[bytes, bytes]] = defaultdict(dict)
        self.scores: dict[tuple[int, str], dict[bytes, float]] = defaultdict(dict)
        self.checkpoints: dict[int, Claim] = {}

    async def claim(self, partition: int, owner: str, topic_id: str) -> Claim:
        """Raise the epoch; see `Store.claim`."""
        last = self.checkpoints.get(partition, UNCLAIMED)
        claim = Claim(last.epoch + 1, owner, last.next_offset, last.topic_id or topic_id)
        self.checkpoints[partition] = claim
        return claim

    async def read_whole(
        self, partition: int, hashes: Sequence[str], score_sets: Sequence[str], under: ClaimPosition | None = None
    ) -> tuple[dict[str, dict[bytes, bytes]], dict[str, dict[bytes, float]]]:
        """Return copies; see `Store.read_whole`."""
        self._check(partition, under)
        return (
            {name: dict(self.hashes[partition, name]) for name in hashes},
            {name: dict(self.scores[partition, name]) for name in score_sets},
        )

    async def read_fields(
        self, partition: int, wanted: Mapping[str, Sequence[bytes]], under: ClaimPosition | None = None
    ) -> dict[str, dict[bytes, bytes | None]]:
        """Look the fields up; see `Store.read_fields`."""
        self._check(partition, under)
        return {name: {f: self.hashes[partition, name].get(f) for f in fields} for name, fields in wanted.items()}

    async def apply(
        self, partition: int, claim: Claim, expected_next: int | None, new_next: int, changes: Changes
    ) -> Outcome:
        """Write under the claim; see `Store.apply`."""
        last = self.checkpoints.get(partition, UNCLAIMED)
        if (last.epoch, last.owner) != (claim.epoch, claim.owner):
            return Outcome.FENCED
        if last.next_offset == new_next:
            return Outcome.ALREADY
        if last.next_offset != expected_next:
            return Outcome.ROLLED_BACK
        for name, fields in changes.hashes.items():
            _overwrite(self.hashes[partition, name], fields)
        for name, scores in changes.scores.items():
            _overwrite(self.scores[partition, name], scores)
        self.checkpoints[partition] = Claim(last.epoch, last.owner, new_next, last.topic_id)
        return Outcome.APPLIED

    async def hash_pages(self, partition: int, collection: str) -> AsyncIterator[Mapping[bytes, bytes]]:
        """Yield the hash as one page; see `Contents`."""
        yield self.hashes[partition, collection]

    async def score_pages(self, partition: int, collection: str) -> AsyncIterator[Mapping[bytes, float]]:
        """Yield the sorted set as one page; see `Contents`."""
        yield self.scores[partition, collection]

    def _check(self, partition: int, under: ClaimPosition | None) -> None:
        if under is not None:
            last = self.checkpoints.get(partition, UNCLAIMED)
            under.check(last.epoch, last.owner, last.next_offset)


V = TypeVar("V")


def _overwrite(collection: dict[bytes, V], changes: Mapping[bytes, V | None]) -> None:
    for key, value in changes.items():
        if value is None:
            collection.pop(key, None)
        else:
            collection[key] = value
