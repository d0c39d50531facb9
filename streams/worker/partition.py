"""One claimed partition: run in, state in the store, in strict order."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from schemas.events import Session
from streams.folds.partition import PROJECTIONS, PartitionFold
from streams.folds.projection import Changes, Record
from streams.store.protocol import Claim, Outcome, Store
from streams.worker.intake import Intake, Rejected


class Emits(Protocol):
    """Sends what a batch gives rise to, and returns when it is acknowledged."""

    async def emit(self, sessions: Sequence[Session], rejected: Sequence[Rejected]) -> None:
        """Send all of it."""


@dataclass(slots=True)
class Counters:
    """What a worker has done since it started."""

    listens: int = 0
    batches: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    sessions: int = 0
    fenced: int = 0
    rolled_back: int = 0


class ClaimedPartition:
    """Folds a partition's runs from the claimed offset on.

    A run goes: trim what is done already → decode and check → read what memory lacks → fold → emit, acknowledged →
    apply with the checkpoint. Delivery to the store is exactly once (the checkpoint moves with the state); to topics
    it is at least once.

    Parameters
    ----------
    projections : collection of str
        Those that are folded; a worker folds all.
    """

    def __init__(
        self,
        partition: int,
        claim: Claim,
        start: int,
        store: Store,
        intake: Intake,
        emits: Emits,
        counters: Counters,
        projections: Collection[str] = PROJECTIONS,
    ) -> None:
        self.partition = partition
        self.next_offset = start
        self._claim = claim
        self._checkpoint = claim.next_offset  # what the store must hold for the next apply to be ours
        self._store = store
        self._intake = intake
        self._emits = emits
        self._counters = counters
        self._fold = PartitionFold(partition, projections)

    async def load(self) -> None:
        """Read the collections that are needed whole."""
        fold = self._fold
        hashes, score_sets = await self._store.read_whole(self.partition, fold.hashes_read_at_claim, fold.score_sets)
        for name, fields in hashes.items():
            fold.load_fields(name, fields)
        for name, scores in score_sets.items():
            fold.load_scores(name, scores)

    async def process(self, records: Sequence[Any]) -> Outcome:
        """Take a run in.

        Returns
        -------
        Outcome
            After FENCED or ROLLED_BACK this object is of no more use: its memory is ahead of the store.
        """
        if records[0].offset < self.next_offset:
            records = [record for record in records if record.offset >= self.next_offset]
            if not records:
                return Outcome.ALREADY
        good, rejected = self._intake.take(records)
        await self._read_missing(good)
        duplicates = self._fold.users.duplicates
        self._fold.fold(good)
        changes, sessions = self._fold.take_changes(), self._fold.take_closed_sessions()
        new_next = records[-1].offset + 1
        outcome = await self._emit_and_apply(sessions, rejected, new_next, changes)
        counters = self._counters
        if outcome is Outcome.FENCED:
            counters.fenced += 1
        elif outcome is Outcome.ROLLED_BACK:
            counters.rolled_back += 1
        else:
            self.next_offset = new_next
            counters.batches += 1
            counters.listens += len(good)
            counters.duplicates += self._fold.users.duplicates - duplicates
            counters.dead_letters += len(rejected)
            counters.sessions += len(sessions)
        return outcome

    async def _emit_and_apply(
        self, sessions: Sequence[Session], rejected: Sequence[Rejected], new_next: int, changes: Changes
    ) -> Outcome:
        """Send what the batch gave rise to, then write it; neither, where the partition is another's by now.

        What a fenced worker reads from the store is ahead of its memory: it would take listens for duplicates and send
        sessions that never were. Nobody can refuse those as the store refuses a write, so the store is asked first,
        by an apply that goes nowhere.
        """
        if sessions or rejected:
            outcome = await self._apply(self.next_offset, Changes())
            if outcome.lost:
                return outcome
            await self._emits.emit(sessions, rejected)
        return await self._apply(new_next, changes)

    async def _apply(self, new_next: int, changes: Changes) -> Outcome:
        outcome = await self._store.apply(self.partition, self._claim, self._checkpoint, new_next, changes)
        if not outcome.lost:
            self._checkpoint = new_next
        return outcome

    async def _read_missing(self, batch: Sequence[Record]) -> None:
        missing = self._fold.missing(batch)
        if not missing:
            return
        for name, fields in (await self._store.read_fields(self.partition, missing)).items():
            self._fold.load_fields(name, fields)
