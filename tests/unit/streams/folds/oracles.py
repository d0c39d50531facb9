"""The folds once more, slow and plain: every question is answered by looking at all listens so far.

`Driven` drives the shipped one through a store, batch by batch.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import Any

from botify.schemas.events import Listen, Session
from botify.schemas.validation import Rejected
from botify.streams.folds.popularity import HALF_LIVES_MS
from botify.streams.folds.projection import Record
from botify.streams.folds.reference import ReferenceFold
from botify.streams.folds.sessions import GAP_MS
from botify.streams.folds.users import CACHED, HISTORY_LISTENS, POOR_FRACTION, SESSION_TRACKS
from botify.streams.store.protocol import MemoryStore, Outcome
from botify.streams.worker.folding import ByListen
from tests.unit.streams.worker.records import KafkaRecord, Worker

PARTITION = 3


def without_duplicates(records: Sequence[Record]) -> list[Record]:
    """A listen is dropped where one of its listener's last `HISTORY_LISTENS` kept listens has its id."""
    kept: list[Record] = []
    for offset, listen in records:
        theirs = [k.event_id for _, k in kept if k.user == listen.user]
        if listen.event_id not in theirs[-HISTORY_LISTENS:]:
            kept.append((offset, listen))
    return kept


def user_state(user: int, kept: Sequence[Record]) -> dict[str, Any]:
    """State of one listener by its fields, from all listens without duplicates; tracks and history as lists."""
    theirs = [listen for _, listen in kept if listen.user == user]
    changes = [at for at in range(len(theirs)) if at == 0 or theirs[at].session_id != theirs[at - 1].session_id]
    session = theirs[changes[-1] :]
    return {
        "listens": len(theirs),
        "sessions": len(changes),
        "poor_streak": sum(1 for _ in takewhile(lambda listen: listen.fraction <= POOR_FRACTION, reversed(session))),
        "session_id": session[-1].session_id,
        "session_listens": len(session),
        "last_timestamp_ms": session[-1].timestamp_ms,
        "session_tracks": [listen.track for listen in session[:SESSION_TRACKS]],
        "history": [(listen.timestamp_ms, listen.fraction, listen.track) for listen in theirs[-HISTORY_LISTENS:]],
    }


def popularity_scores(kept: Sequence[Record], half_life: str) -> dict[int, float]:
    """log2 of the decayed sum of each track that was heard, relative to its newest listen so that nothing overflows."""
    half_life_ms = HALF_LIVES_MS[half_life]
    heard = [listen for _, listen in kept if listen.fraction > 0.0]
    scores = {}
    for track in {listen.track for listen in heard}:
        theirs = [listen for listen in heard if listen.track == track]
        newest_ms = max(listen.timestamp_ms for listen in theirs)
        shares = [listen.fraction * 2.0 ** ((listen.timestamp_ms - newest_ms) / half_life_ms) for listen in theirs]
        scores[track] = math.log2(math.fsum(shares)) + newest_ms / half_life_ms
    return scores


def sessions(partition: int, kept: Sequence[Record]) -> tuple[list[Session], dict[int, list[Record]]]:
    """Closed sessions in their order, and the listens of those that are open, by user; all are looked at each time."""
    closed: list[Session] = []
    open_sessions: dict[int, list[Record]] = {}
    event_time_ms = 0

    def close(user: int, closed_by: str) -> None:
        closed.append(_session(partition, open_sessions.pop(user), closed_by))

    for offset, listen in kept:
        event_time_ms = max(event_time_ms, listen.timestamp_ms)
        too_old = [(_last_ms(s), user) for user, s in open_sessions.items() if _last_ms(s) + GAP_MS < event_time_ms]
        for _, user in sorted(too_old):
            close(user, "gap")
        theirs = open_sessions.get(listen.user)
        if theirs and theirs[0][1].session_id != listen.session_id:
            close(listen.user, "next")
        open_sessions.setdefault(listen.user, []).append((offset, listen))
        if listen.ended_session:
            close(listen.user, "end")
    return closed, open_sessions


def _last_ms(session: Sequence[Record]) -> int:
    return max(listen.timestamp_ms for _, listen in session)


def _session(partition: int, session: Sequence[Record], closed_by: str) -> Session:
    first_offset, first = session[0]
    time = 0.0
    for _, listen in session:
        time += listen.fraction
    return Session(
        event_id=f"{partition}-{first_offset}",
        session_id=first.session_id,
        user=first.user,
        started_ms=first.timestamp_ms,
        ended_ms=_last_ms(session),
        tracks=len(session),
        time=time,
        closed_by=closed_by,
    )


def records_of(listens: Sequence[Listen], first_offset: int = 100) -> list[Record]:
    """Give listens offsets, with a hole here and there as transactions leave them."""
    return [(first_offset + at + at // 7, listen) for at, listen in enumerate(listens)]


class Undecoded(ByListen):
    """Folds events that are given as they are."""

    def __init__(self, cache_size: int) -> None:
        self._cache_size = cache_size

    def open(self, partition: int, only: Any, rows: Any, *, nothing_stored: bool) -> ReferenceFold:
        return ReferenceFold(partition, only, nothing_stored=nothing_stored, cache_size=self._cache_size)

    def accept(self, records: Sequence[Any], intake: Any, event_time: Any) -> tuple[list[Record], list[Rejected]]:
        return [(record.offset, record.value) for record in records], []


class Driven(Worker):
    """A worker of (offset, listen), whose memory has room for `cache_size` listeners."""

    def __init__(
        self, partition: int = PARTITION, store: MemoryStore | None = None, *, cache_size: int = CACHED
    ) -> None:
        super().__init__(Undecoded(cache_size), store=store, partition=partition)

    def take(self, batch: Sequence[Record]) -> None:
        records = [KafkaRecord(offset, None, listen) for offset, listen in batch]  # type: ignore[arg-type]
        assert self.process(records) is Outcome.APPLIED


def drive(batches: Iterable[Sequence[Record]], *, restarts: bool = False, cache_size: int = CACHED) -> Driven:
    """Fold batches from an empty store on; with `restarts`, by another worker each."""
    driven = Driven(cache_size=cache_size)
    for batch in batches:
        driven.take(batch)
        if restarts:
            driven.claim_again()
    return driven
