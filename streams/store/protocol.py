"""The contract of a store, claim, read, apply, and the store in memory that states it plainly.

A partition's state and its checkpoint (the next offset to be folded) change together or not at all. A worker *claims* a
partition, which raises its epoch; *applies* batches under that epoch; and learns from the outcome whether it still owns
the partition. Exactly-once delivery rests on this (docs/exactly-once.md).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, TypeVar

from botify.core.errors import BotifyError
from botify.core.kafka.admin import TopicState
from botify.schemas.dead_letters import Letters
from botify.streams.folds.projection import Changes


class Outcome(Enum):
    """The outcome of an apply."""

    APPLIED = "applied"  # state and checkpoint have moved
    ALREADY = "already"  # the store has the new checkpoint already: the reply to an earlier try was lost
    FENCED = "fenced"  # a later claim exists. Nothing was written; drop the partition's state
    ROLLED_BACK = "rolled_back"
    """The checkpoint is not the worker's: the store lost writes. Nothing was written; claim again."""

    @property
    def lost(self) -> bool:
        return self in (Outcome.FENCED, Outcome.ROLLED_BACK)


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's right to write a partition."""

    epoch: int  # grows with every claim
    owner: str  # after the store was rolled back, two workers may have the same epoch, but never the same owner
    next_offset: int | None  # the checkpoint, None without state
    topic_id: str | None  # of the topic that the state was folded from
    letters: Letters | None = None  # the dead letters when the state was begun; None if the store does not say


@dataclass(frozen=True, slots=True)
class ClaimPosition:
    """The position of a worker in a partition: its checkpoint is of the claim, or after the last apply."""

    claim: Claim
    checkpoint: int | None

    def check(self, epoch: int, owner: str, checkpoint: int | None) -> None:
        if (epoch, owner) != (self.claim.epoch, self.claim.owner):
            raise ClaimLostError(Outcome.FENCED)
        if checkpoint != self.checkpoint:
            raise ClaimLostError(Outcome.ROLLED_BACK)

    def judge(self, epoch: int, owner: str, checkpoint: int | None, new_next: int) -> Outcome:
        """Return the outcome of an apply up to `new_next` from here, to a store that has this position.

        Examples
        --------
        >>> here = ClaimPosition(Claim(2, "me", None, "t"), 7)
        >>> [here.judge(2, "me", checkpoint, new_next=9).name for checkpoint in (7, 9, 8, None)]
        ['APPLIED', 'ALREADY', 'ROLLED_BACK', 'ROLLED_BACK']
        >>> here.judge(2, "you", 7, new_next=9).name
        'FENCED'
        """
        if (epoch, owner) != (self.claim.epoch, self.claim.owner):
            return Outcome.FENCED
        if checkpoint == new_next:
            return Outcome.ALREADY
        return Outcome.APPLIED if checkpoint == self.checkpoint else Outcome.ROLLED_BACK


class ClaimLostError(Exception):
    """The store has another position (FENCED or ROLLED_BACK), so its content does not match the reader's memory."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.name)
        self.outcome = outcome


class Store(Protocol):
    """State of the partitions of one namespace."""

    async def claim(self, partition: int, owner: str, topic_id: str) -> Claim:
        """Raise the partition's epoch; a topic id that the partition has already stays, and the caller compares it."""

    async def read_whole(
        self, partition: int, hashes: Sequence[str], score_sets: Sequence[str], under: ClaimPosition | None = None
    ) -> tuple[dict[str, dict[bytes, bytes]], dict[str, dict[bytes, float]]]:
        """Return whole collections, in one round trip.

        A worker reads `under` its position; raises `ClaimLostError` if the store has another one.
        """

    async def read_fields(
        self, partition: int, wanted: Mapping[str, Sequence[bytes]], under: ClaimPosition | None = None
    ) -> dict[str, dict[bytes, bytes | None]]:
        """Return fields of hashes, in one round trip, `under` a position as in `read_whole`."""

    async def apply(
        self, partition: int, claim: Claim, expected_next: int | None, new_next: int, changes: Changes
    ) -> Outcome:
        """Write the changes and move the checkpoint from `expected_next` to `new_next`, or do neither.

        `expected_next` is None only for the first apply to a partition without state.
        """


V = TypeVar("V")

Items = Mapping[bytes, bytes | float]  # the fields of a hash, or the scores of a sorted set's members

UNCLAIMED = Claim(0, "", None, None)


class MemoryStore:
    """A `Store` in memory, for unit tests and offline folds; collections are by (partition, collection)."""

    def __init__(self) -> None:
        self.hashes: dict[tuple[int, str], dict[bytes, bytes]] = defaultdict(dict)
        self.scores: dict[tuple[int, str], dict[bytes, float]] = defaultdict(dict)
        self.checkpoints: dict[int, Claim] = {}  # the newest claims, with the checkpoint as `next_offset`

    async def claim(self, partition: int, owner: str, topic_id: str) -> Claim:
        last = self.checkpoints.get(partition, UNCLAIMED)
        claim = Claim(last.epoch + 1, owner, last.next_offset, last.topic_id or topic_id)
        self.checkpoints[partition] = claim
        return claim

    async def read_whole(
        self, partition: int, hashes: Sequence[str], score_sets: Sequence[str], under: ClaimPosition | None = None
    ) -> tuple[dict[str, dict[bytes, bytes]], dict[str, dict[bytes, float]]]:
        self._check(partition, under)
        return (
            {name: dict(self.hashes[partition, name]) for name in hashes},
            {name: dict(self.scores[partition, name]) for name in score_sets},
        )

    async def read_fields(
        self, partition: int, wanted: Mapping[str, Sequence[bytes]], under: ClaimPosition | None = None
    ) -> dict[str, dict[bytes, bytes | None]]:
        self._check(partition, under)
        return {name: {f: self.hashes[partition, name].get(f) for f in fields} for name, fields in wanted.items()}

    async def apply(
        self, partition: int, claim: Claim, expected_next: int | None, new_next: int, changes: Changes
    ) -> Outcome:
        last = self.checkpoints.get(partition, UNCLAIMED)
        outcome = ClaimPosition(claim, expected_next).judge(last.epoch, last.owner, last.next_offset, new_next)
        if outcome is not Outcome.APPLIED:
            return outcome
        for name, fields in changes.hashes.items():
            _overwrite(self.hashes[partition, name], fields)
        for name, scores in changes.scores.items():
            _overwrite(self.scores[partition, name], scores)
        self.checkpoints[partition] = Claim(last.epoch, last.owner, new_next, last.topic_id)
        return outcome

    async def pages(self, partition: int, collection: str) -> AsyncIterator[Items]:
        yield self.items(partition, collection)

    def items(self, partition: int, collection: str) -> Items:
        key = partition, collection
        return self.scores.get(key) or self.hashes.get(key, {})

    def _check(self, partition: int, under: ClaimPosition | None) -> None:
        if under is not None:
            last = self.checkpoints.get(partition, UNCLAIMED)
            under.check(last.epoch, last.owner, last.next_offset)


def _overwrite(collection: dict[bytes, V], changes: Mapping[bytes, V | None]) -> None:
    collection.update(changes)  # type: ignore[arg-type]  # what is None is removed
    if None in changes.values():
        for key in [key for key, value in changes.items() if value is None]:
            del collection[key]


class TopicMismatchError(BotifyError):
    """State and topic do not belong together; to continue would make the state wrong."""


class MissingStateError(BotifyError):
    """The state has vanished, and the settings do not allow to rebuild it."""


def another_topic(topic: str, found: str, expected: str | None) -> TopicMismatchError:
    """Return the error for a topic that has the name, but not the id, of the one that the state was folded from."""
    return TopicMismatchError(
        f"{topic} was deleted and recreated (id {found}; the state is of {expected}). "
        "Replay it into a new namespace, or clear the state."
    )


def offset_to_start_at(partition: int, claim: Claim, state: TopicState, *, rebuild_missing: bool = False) -> int:
    """Return the offset at which folding continues; decided at every claim.

    The group's committed offset is the only evidence of state that the store has lost. Raises `TopicMismatchError` if
    the topic is another one, or events that the state lacks are gone, and `MissingStateError` if the store has lost the
    state and `rebuild_missing` is not set.
    """
    topic, start, end = state.topic, state.start[partition], state.end[partition]
    if claim.topic_id != state.topic_id:
        raise another_topic(topic, state.topic_id, claim.topic_id)
    if claim.next_offset is None:
        if start > 0:
            raise TopicMismatchError(
                f"{topic}[{partition}] has no state in Redis, and its first {start} records are gone, so the state "
                "cannot be complete. Load a snapshot, or replay into a new namespace from what is left."
            )
        if (committed := state.committed.get(partition, 0)) > 0 and not rebuild_missing:
            raise MissingStateError(
                f"{topic}[{partition}] has no state in Redis, though it had been folded up to offset {committed}: "
                "Redis was emptied, or REDIS_URL names another one. Bring its data back, load a snapshot, or set "
                "BOTIFY_ON_MISSING_STATE=rebuild to fold the topic again from its beginning."
            )
        return 0
    if claim.next_offset < start:
        raise TopicMismatchError(
            f"{topic}[{partition}]: the state ends at offset {claim.next_offset}, the topic begins at {start}; the "
            "events between are gone. Load a snapshot, or replay into a new namespace from what is left."
        )
    if claim.next_offset > end:
        raise TopicMismatchError(
            f"{topic}[{partition}]: the state is at offset {claim.next_offset}, the topic ends at {end}: it has lost "
            "records. `botify replay run` and `botify replay swap` rebuild the state from what is left."
        )
    return claim.next_offset
