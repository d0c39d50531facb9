"""The store in a dict: for unit tests and offline folds. Same contract, nothing survives."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from streams.folds.projection import Changes
from streams.store.protocol import Claim, Outcome


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
        last = self.checkpoints.get(partition, Claim(0, "", None, None))
        claim = Claim(last.epoch + 1, owner, last.next_offset, last.topic_id or topic_id)
        self.checkpoints[partition] = claim
        return claim

    async def read_all_fields(self, partition: int, collection: str) -> dict[bytes, bytes]:
        """Return a copy of a hash; see `Store.read_all_fields`."""
        return dict(self.hashes[partition, collection])

    async def read_missing(
        self, partition: int, hashes: Mapping[str, Sequence[bytes]], score_sets: Mapping[str, Sequence[bytes]]
    ) -> tuple[dict[str, dict[bytes, bytes | None]], dict[str, dict[bytes, float | None]]]:
        """Look the fields and members up; see `Store.read_missing`."""
        return (
            {name: {f: self.hashes[partition, name].get(f) for f in fields} for name, fields in hashes.items()},
            {name: {m: self.scores[partition, name].get(m) for m in members} for name, members in score_sets.items()},
        )

    async def apply(self, partition: int, claim: Claim, expected_next: int, new_next: int, changes: Changes) -> Outcome:
        """Write under the claim; see `Store.apply`."""
        last = self.checkpoints[partition]
        if (last.epoch, last.owner) != (claim.epoch, claim.owner):
            return Outcome.FENCED
        if last.next_offset == new_next:
            return Outcome.ALREADY
        if last.next_offset is not None and last.next_offset != expected_next:
            return Outcome.ROLLED_BACK
        for name, fields in changes.hashes.items():
            for field, value in fields.items():
                if value is None:
                    self.hashes[partition, name].pop(field, None)
                else:
                    self.hashes[partition, name][field] = value
        for name, scores in changes.scores.items():
            self.scores[partition, name].update(scores)
        self.checkpoints[partition] = Claim(last.epoch, last.owner, new_next, last.topic_id)
        return Outcome.APPLIED
