"""The claimed training partition: batches in, models out, the learner's state in the store from time to time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.events import Model, Track
from streams.folds.projection import Changes
from streams.learner.intake import TrainingIntake
from streams.learner.learner import Learner, OutdatedStateError
from streams.store.protocol import Claim, ClaimLostError, Outcome, Position, Store
from streams.worker.emits import Emits
from streams.worker.intake import Rejected

log = logging.getLogger(__name__)

LEARNER = "learner"
"""The collection that holds the fields of `Learner.state`."""

CHECKPOINT_LISTENS = 20_000
"""The state is several megabytes, so it is written after as many; a learner that dies learns as many again."""


@dataclass(slots=True)
class Counters:
    """What a learner has done since it started."""

    listens: int = 0
    batches: int = 0
    dead_letters: int = 0
    snapshots: int = 0
    missed: int = 0
    fenced: int = 0
    rolled_back: int = 0

    def described(self) -> Iterable[tuple[str, str, int]]:
        """Return name, documentation and value of each, for metrics."""
        return (
            ("listens", "Listens that were learned from.", self.listens),
            ("batches", "Training batches that were folded, copies included.", self.batches),
            ("dead_letters", "Records that went to the dead-letter topic.", self.dead_letters),
            ("snapshots", "Snapshots of models that were published.", self.snapshots),
            ("missed", "Offsets of the listens topic that no training batch has brought.", self.missed),
        )


class LearningPartition:
    """Learns from runs of training batches, from the claimed offset on.

    Delivery to the store is exactly once; to the models topic it is at least once, and a copy has the same version and
    the same bytes. When the state is written is no part of what is learned.

    Parameters
    ----------
    learner : Learner
        As of offset `start`.
    """

    def __init__(
        self,
        partition: int,
        position: Position,
        start: int,
        store: Store,
        learner: Learner,
        intake: TrainingIntake,
        emits: Emits,
        counters: Counters,
    ) -> None:
        self.partition = partition
        self.next_offset = start
        self._position = position
        self._store = store
        self._learner = learner
        self._intake = intake
        self._emits = emits
        self._counters = counters
        self._unwritten = 0

    @property
    def checkpoint(self) -> int:
        """What the store has."""
        return self._position.checkpoint or 0

    async def process(self, records: Sequence[Any]) -> Outcome:
        """Learn from a run, and write the state where enough has come together; see `Partition.process`."""
        outcome = Outcome.ALREADY
        for record in records:
            if record.offset < self.next_offset:
                continue
            try:
                await self._take(record)
            except ClaimLostError as lost:
                return self._count(lost.outcome)
            if self._unwritten >= CHECKPOINT_LISTENS:
                outcome = await self.settle()
                if outcome.lost:
                    return outcome
            await asyncio.sleep(0)  # learning from a batch takes a while; let others have a turn
        return outcome

    async def settle(self) -> Outcome:
        """Write the state, if there is anything new; see `Partition.settle`."""
        claim, checkpoint = self._position.claim, self._position.checkpoint
        if self.next_offset == (checkpoint or 0):
            return Outcome.ALREADY
        changes = Changes(hashes={LEARNER: self._learner.state()})
        outcome = await self._store.apply(self.partition, claim, checkpoint, self.next_offset, changes)
        if not outcome.lost:
            self._position = Position(claim, self.next_offset)
            self._unwritten = 0
        return self._count(outcome)

    async def _take(self, record: Any) -> None:
        taken = self._intake.take(record)
        if isinstance(taken, Rejected):
            await self._emits.emit((), [taken])
            self._counters.dead_letters += 1
        else:
            batch, listens = taken
            missed = self._learner.missed
            self._unwritten += (learned := self._learner.fold(batch, listens))
            self._counters.listens += learned
            self._counters.batches += 1
            if missed != self._learner.missed:
                self._counters.missed += self._learner.missed - missed
                log.error(
                    "%d listens before offset %d of partition %d are not in the training topic: BOTIFY_TRAINING was "
                    "off, or a replay has folded them; models go on without them",
                    self._learner.missed - missed,
                    batch.first_offset,
                    batch.source_partition,
                )
            if models := self._learner.take_models():
                await self._publish(models)
        self.next_offset = record.offset + 1

    async def _publish(self, models: Sequence[Model]) -> None:
        # One that was overtaken would publish older snapshots over the newer ones of its successor.
        await self._store.read_fields(self.partition, {}, self._position)
        await self._emits.emit(models, ())
        self._counters.snapshots += len(models)
        log.info("published %s", ", ".join(f"{model.name} {model.version} {model.digest[:12]}" for model in models))

    def _count(self, outcome: Outcome) -> Outcome:
        if outcome is Outcome.FENCED:
            self._counters.fenced += 1
        elif outcome is Outcome.ROLLED_BACK:
            self._counters.rolled_back += 1
        return outcome


async def open_partition(
    partition: int,
    claim: Claim,
    start: int,
    store: Store,
    catalogue: Mapping[int, Track],
    intake: TrainingIntake,
    emits: Emits,
    counters: Counters,
) -> LearningPartition:
    """Read the learner's state and return the partition; where it is of other models, learning begins anew.

    Raises
    ------
    ClaimLostError
        The partition was claimed again since, or the store rolled back.
    """
    position = Position(claim, claim.next_offset)
    (fields,) = (await store.read_whole(partition, [LEARNER], [], position))[0].values()
    learner = Learner(catalogue)
    if fields:
        try:
            learner = Learner.restore(fields, catalogue)
        except OutdatedStateError as outdated:
            log.warning("%s: learning begins anew", outdated)
            start = 0
    return LearningPartition(partition, position, start, store, learner, intake, emits, counters)
