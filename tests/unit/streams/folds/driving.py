"""A fold driven through a store, batch by batch, as the worker does it but without its asyncio lanes."""

import asyncio
from collections.abc import Iterable, Sequence

from botify.schemas.events import Session
from botify.streams.folds.projection import Record
from botify.streams.folds.reference import ReferenceFold
from botify.streams.store.protocol import Claim, MemoryStore, Outcome

PARTITION = 3


class Driven:
    """A partition's state in a `MemoryStore`, and the sessions that came out."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.sessions: list[Session] = []
        self.duplicates = 0
        self.restart()

    def restart(self) -> None:
        """Forget everything in memory and claim anew, as another worker would."""
        self._claim: Claim = asyncio.run(self.store.claim(PARTITION, "test", "topic"))
        self._fold = ReferenceFold(PARTITION, nothing_stored=self._claim.next_offset is None)
        fold = self._fold
        whole = self.store.read_whole(PARTITION, fold.hashes_read_at_claim, fold.score_sets)
        hashes, scores = asyncio.run(whole)
        for name, fields in hashes.items():
            fold.load_fields(name, fields)
        for name, members in scores.items():
            fold.load_scores(name, members)

    def take(self, batch: Sequence[Record]) -> None:
        fold = self._fold
        for name, fields in asyncio.run(self.store.read_fields(PARTITION, fold.missing(batch))).items():
            fold.load_fields(name, fields)
        before = fold.duplicates
        fold.fold(batch)
        self.duplicates += fold.duplicates - before
        self.sessions += fold.take_closed_sessions()
        at = self.store.checkpoints[PARTITION].next_offset
        new_next = batch[-1][0] + 1
        outcome = asyncio.run(self.store.apply(PARTITION, self._claim, at, new_next, fold.take_changes()))
        assert outcome is Outcome.APPLIED

    def contents(self) -> dict[str, object]:
        """Everything in the store, without what differs from claim to claim."""
        hashes = {name: dict(fields) for (_, name), fields in self.store.hashes.items() if fields}
        scores = {name: dict(members) for (_, name), members in self.store.scores.items() if members}
        return {**hashes, **scores, "next_offset": self.store.checkpoints[PARTITION].next_offset}


def drive(batches: Iterable[Sequence[Record]], *, restarts: bool = False) -> Driven:
    """Fold batches from an empty store on; with `restarts`, by another worker each."""
    driven = Driven()
    for batch in batches:
        if batch:
            driven.take(batch)
            if restarts:
                driven.restart()
    return driven
