"""One claimed partition: run in, state in the store, in strict order."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from core.errors import RejectedMessageError, rejection_classes
from schemas.events import Listen
from schemas.training import training_batch_of
from schemas.validation import Intake, Rejected, decode_and_validate
from streams.folds.partition import PROJECTIONS, PartitionFold
from streams.folds.popularity import TrackRows
from streams.folds.projection import Record
from streams.store.protocol import Claim, ClaimLostError, ClaimPosition, Outcome, Store
from streams.worker.publisher import Publishable, Publisher


@dataclass(slots=True)
class WorkerCounters:
    """What a worker has done since it started."""

    listens: int = 0
    batches: int = 0
    duplicates: int = 0
    rejected: dict[str, int] = field(default_factory=lambda: dict.fromkeys(rejection_classes(), 0))
    """Dead letters, by the class of their reason."""
    sessions: int = 0
    fenced: int = 0
    rolled_back: int = 0

    @property
    def dead_letters(self) -> int:
        """All of `rejected`."""
        return sum(self.rejected.values())

    def described(self) -> Iterable[tuple[str, str, int]]:
        """Return name, documentation and value of each, for metrics."""
        return (
            ("listens", "Listens that were folded, duplicates included.", self.listens),
            ("batches", "Batches that were applied to the store.", self.batches),
            ("duplicates", "Listens that were dropped because their event id had been met.", self.duplicates),
            ("sessions_closed", "Sessions that were closed.", self.sessions),
        )


class WorkerPartition:
    """Folds a partition's runs from the claimed offset on.

    A run goes: trim what is done already → decode and check → read what memory lacks → fold → emit, acknowledged →
    apply with the checkpoint. Delivery to the store is exactly once (the checkpoint moves with the state); to topics
    it is at least once.

    Parameters
    ----------
    projections : collection of str
        Those that are folded; a worker folds all.
    training : bool
        Whether the listens are sent on to the training topic.

    Attributes
    ----------
    event_time : EventTime
        Of the newest listen that was accepted, once the state is loaded.
    """

    def __init__(
        self,
        partition: int,
        claim: Claim,
        start: int,
        store: Store,
        intake: Intake,
        publisher: Publisher,
        counters: WorkerCounters,
        projections: Collection[str] = PROJECTIONS,
        rows: TrackRows | None = None,
        *,
        training: bool = False,
    ) -> None:
        self.partition = partition
        self.next_offset = start
        self._position = ClaimPosition(claim, claim.next_offset)
        self._store = store
        self._intake = intake
        self._publisher = publisher
        self._counters = counters
        self._training = training
        # state and checkpoint are written together, so without the one there is none of the other
        self._fold = PartitionFold(partition, projections, rows, nothing_stored=claim.next_offset is None)
        self.event_time = self._fold.event_time
        self._loaded = False

    @property
    def checkpoint(self) -> int:
        """What the store has: every run is in it before the next."""
        return self.next_offset

    async def write_checkpoint(self) -> Outcome:
        """Do nothing; nothing waits to be applied."""
        return Outcome.ALREADY

    async def process(self, records: Sequence[Any]) -> Outcome:
        """Take a run in.

        Returns
        -------
        Outcome
            After FENCED or ROLLED_BACK this object is of no more use: its memory does not go with the store.
        """
        if records[0].offset < self.next_offset:
            records = [record for record in records if record.offset >= self.next_offset]
            if not records:
                return Outcome.ALREADY
        try:
            outcome = await self._take(records)
        except ClaimLostError as lost:
            outcome = lost.outcome
        if outcome is Outcome.FENCED:
            self._counters.fenced += 1
        elif outcome is Outcome.ROLLED_BACK:
            self._counters.rolled_back += 1
        return outcome

    async def load(self) -> None:
        """Read the collections that are needed whole, before the first run; `process` does it where nobody did.

        Raises
        ------
        ClaimLostError
            The partition was claimed again, or the store rolled back, since.
        """
        fold = self._fold
        hashes, score_sets = await self._store.read_whole(
            self.partition, fold.hashes_read_at_claim, fold.score_sets, self._position
        )
        for name, fields in hashes.items():
            fold.load_fields(name, fields)
        for name, scores in score_sets.items():
            fold.load_scores(name, scores)
        self._loaded = True

    async def _take(self, records: Sequence[Any]) -> Outcome:
        if not self._loaded:
            await self.load()
        good: list[Record] = []
        rejected: list[Rejected] = []
        for record, listen in decode_and_validate(records, Listen, self._intake, event_time=self.event_time):
            if isinstance(listen, RejectedMessageError):
                rejected.append(Rejected(record, listen))
            else:
                good.append((record.offset, listen))
        await self._read_missing(good)
        duplicates = self._fold.users.duplicates
        kept = self._fold.fold(good)
        changes, sessions = self._fold.take_changes(), self._fold.take_closed_sessions()
        claim, checkpoint = self._position.claim, self._position.checkpoint
        new_next = records[-1].offset + 1
        events: list[Publishable] = [*sessions]
        if self._training:
            # From the checkpoint on: what lies before it is in the training topic already, whoever has put it there.
            events.append(training_batch_of(claim.topic_id or "", self.partition, self.next_offset, new_next, kept))
        if events or rejected:
            # Every read was made under the position, so this is right even if the partition is another's by now.
            await self._publisher.emit(events, rejected)
        outcome = await self._store.apply(self.partition, claim, checkpoint, new_next, changes)
        if not outcome.lost:
            self.next_offset = new_next
            self._position = ClaimPosition(claim, new_next)
            counters = self._counters
            counters.batches += 1
            counters.listens += len(good)
            counters.duplicates += self._fold.users.duplicates - duplicates
            for letter in rejected:
                counters.rejected[type(letter.reason).__name__] += 1
            counters.sessions += len(sessions)
        return outcome

    async def _read_missing(self, batch: Sequence[Record]) -> None:
        missing = self._fold.missing(batch)
        if not missing:
            return
        for name, fields in (await self._store.read_fields(self.partition, missing, self._position)).items():
            self._fold.load_fields(name, fields)
