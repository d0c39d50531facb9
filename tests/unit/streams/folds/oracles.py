"""The folds once more, slow and plain: every question is answered by looking at all listens so far.

`Driven` drives the shipped one through a store, batch by batch, as the worker does but without its asyncio lanes.
"""

import asyncio
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from botify.schemas.events import Listen, Session
from botify.streams.folds.popularity import HALF_LIVES_MS
from botify.streams.folds.projection import Record
from botify.streams.folds.reference import ReferenceFold
from botify.streams.folds.sessions import GAP_MS
from botify.streams.folds.users import HISTORY_LISTENS, POOR_FRACTION, SESSION_TRACKS
from botify.streams.store.protocol import Claim, MemoryStore, Outcome

PARTITION = 3


def without_duplicates(records: Sequence[Record]) -> list[Record]:
    """A listen is dropped where one of its listener's last `HISTORY_LISTENS` kept listens has its id."""
    kept: list[Record] = []
    for offset, listen in records:
        theirs = [k.event_id for _, k in kept if k.user == listen.user]
        if listen.event_id not in theirs[-HISTORY_LISTENS:]:
            kept.append((offset, listen))
    return kept


class PlainUser(NamedTuple):
    listens: int
    sessions: int
    poor_streak: int
    session_id: str
    session_listens: int
    last_timestamp_ms: int
    session_tracks: list[int]
    history: list[tuple[int, float, int]]


def user_state(user: int, kept: Sequence[Record]) -> PlainUser:
    """State of one listener, from all listens without duplicates."""
    theirs = [listen for _, listen in kept if listen.user == user]
    changes = [at for at in range(len(theirs)) if at == 0 or theirs[at].session_id != theirs[at - 1].session_id]
    session = theirs[changes[-1] :]
    poor_streak = 0
    for listen in reversed(session):
        if listen.fraction > POOR_FRACTION:
            break
        poor_streak += 1
    return PlainUser(
        listens=len(theirs),
        sessions=len(changes),
        poor_streak=poor_streak,
        session_id=session[-1].session_id,
        session_listens=len(session),
        last_timestamp_ms=session[-1].timestamp_ms,
        session_tracks=[listen.track for listen in session[:SESSION_TRACKS]],
        history=[(listen.timestamp_ms, listen.fraction, listen.track) for listen in theirs[-HISTORY_LISTENS:]],
    )


def popularity_scores(kept: Sequence[Record], half_life: str) -> dict[int, float]:
    """log2 of the decayed sum of each track that was heard, relative to its newest listen so that nothing overflows."""
    half_life_ms = HALF_LIVES_MS[half_life]
    heard = [listen for _, listen in kept if listen.fraction > 0.0]
    scores = {}
    for track in {listen.track for listen in heard}:
        theirs = [listen for listen in heard if listen.track == track]
        newest_ms = max(listen.timestamp_ms for listen in theirs)
        total = math.fsum(
            listen.fraction * 2.0 ** ((listen.timestamp_ms - newest_ms) / half_life_ms) for listen in theirs
        )
        scores[track] = math.log2(total) + newest_ms / half_life_ms
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
