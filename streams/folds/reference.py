"""The folds as they are meant: listen by listen, in plain Python. `ColumnFold` gives the same state, byte for byte.

It is the oracle of tests and of `botify verify --one-by-one`, and folds until a worker's code is compiled. What a
listen does to the record of its listener is stated by the records: `UserState.fold`, `Likes.fold`.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from botify.schemas.events import Listen, Session
from botify.streams.folds.likes import LIKES_OF_USERS, Likes
from botify.streams.folds.partition import PROJECTIONS
from botify.streams.folds.popularity import HALF_LIVES_MS, POPULARITY, TOP_TRACKS, TOPS
from botify.streams.folds.projection import Changes, Fields, Record, ScoreChanges, Scores
from botify.streams.folds.sessions import GAP_MS, OPEN_SESSIONS, OpenSession, Watermark, policy_of
from botify.streams.folds.users import CACHED, USERS, UserRecords, UserState


class ReferenceFold:
    """A `Fold` of listens; of `PROJECTIONS`, those in `only` and `ALWAYS_FOLDED` are folded.

    If the store has `nothing_stored` of this partition, tracks, which stay in memory, are not read; listeners are,
    because memory forgets them.
    """

    hashes_read_at_claim: Sequence[str] = (OPEN_SESSIONS,)

    def __init__(
        self,
        partition: int,
        only: Collection[str] = PROJECTIONS,
        *,
        nothing_stored: bool = False,
        cache_size: int = CACHED,
    ) -> None:
        self.duplicates = 0
        self._users = UserRecords(USERS, UserState, UserState.from_bytes, cache_size)
        self._likes = UserRecords(LIKES_OF_USERS, Likes, Likes.from_bytes, cache_size) if "likes" in only else None
        self._popularity = Popularity(nothing_stored=nothing_stored) if "popularity" in only else None
        self._sessions = Sessions(partition)
        self._changed_likes: set[int] = set()
        self.event_time = self._sessions.watermark.event_time
        self.score_sets: Sequence[str] = TOPS if self._popularity else ()

    def missing(self, batch: Sequence[Record]) -> Mapping[str, list[bytes]]:
        of = (self._users, self._likes, self._popularity)
        return {name: fields for one in of if one is not None for name, fields in one.missing(batch).items()}

    def load_fields(self, collection: str, values: Fields) -> None:
        parts = {USERS: self._users, LIKES_OF_USERS: self._likes, POPULARITY: self._popularity}
        part = self._sessions if collection == OPEN_SESSIONS else parts[collection]
        if part is not None:
            part.load_fields(values)

    def load_scores(self, collection: str, values: Scores) -> None:
        if self._popularity is not None:
            self._popularity.tops[collection].load(values)

    def fold(self, batch: Sequence[Record]) -> Sequence[Record]:
        """See `Fold.fold`; duplicates are dropped before all else."""
        kept = []
        for offset, listen in batch:
            if not self._users.batch[listen.user].fold(listen):
                self.duplicates += 1
                continue
            kept.append((offset, listen))
            if self._likes is not None and self._likes.batch[listen.user].fold(listen):
                self._changed_likes.add(listen.user)
            if self._popularity is not None:
                self._popularity.fold(listen)
            self._sessions.fold(offset, listen)
        return kept

    def take_changes(self) -> Changes:
        changes = Changes({USERS: {b"%d" % user: state.to_bytes() for user, state in self._users.take_batch().items()}})
        if self._likes is not None:
            likes, changed, self._changed_likes = self._likes.take_batch(), self._changed_likes, set()
            if changed:
                changes.hashes[LIKES_OF_USERS] = {b"%d" % user: likes[user].to_bytes() for user in changed}
        popularity = Changes() if self._popularity is None else self._popularity.changes()
        return Changes.merged([changes, popularity, self._sessions.changes()])

    def erase(self, user: int) -> Changes:
        """See `Fold.erase`; popularity is a sum over listeners, and a later replay leaves out the listens."""
        of = (self._users, self._likes, self._sessions)
        return Changes.merged(one.erase(user) for one in of if one is not None)

    def take_closed_sessions(self) -> list[Session]:
        closed, self._sessions.closed = self._sessions.closed, []
        return closed


_HALF_LIVES_MS = np.array([*HALF_LIVES_MS.values()], dtype=np.float64)


class Popularity:
    """Scores of the tracks heard, for all half-lives at once; see `botify.streams.folds.popularity`.

    Examples
    --------
    >>> popularity = Popularity(nothing_stored=True)
    >>> popularity.fold(Listen("a:0", 42, 7, 0.5, 3_600_000, "a", 0, False, None, {}, None, None))
    >>> popularity.changes().scores["popularity:1h"]  # log2(0.5 · 2^1)
    {b'7': 0.0}
    """

    def __init__(self, top_tracks: int = TOP_TRACKS, *, nothing_stored: bool = False) -> None:
        self._nothing_stored = nothing_stored
        self._scores: dict[int, NDArray[np.float64]] = defaultdict(lambda: np.full(len(HALF_LIVES_MS), -np.inf))
        self._touched: set[int] = set()
        self.tops = {name: Top(top_tracks) for name in TOPS}

    def missing(self, batch: Sequence[Record]) -> dict[str, list[bytes]]:
        missing = set() if self._nothing_stored else {listen.track for _, listen in batch} - self._scores.keys()
        return {POPULARITY: [b"%d" % track for track in sorted(missing)]} if missing else {}

    def load_fields(self, values: Fields) -> None:
        for field, record in values.items():
            scores = self._scores[int(field)]
            if record is not None:
                scores[:] = np.frombuffer(record, dtype="<f8")

    def fold(self, listen: Listen) -> None:
        if listen.fraction > 0:
            scores, weight = self._scores[listen.track], np.log2(listen.fraction)
            np.logaddexp2(scores, weight + listen.timestamp_ms / _HALF_LIVES_MS, out=scores)
            self._touched.add(listen.track)

    def changes(self) -> Changes:
        if not self._touched:
            return Changes()
        tracks, self._touched = sorted(self._touched), set()
        scores = [self._scores[track] for track in tracks]
        fields = {b"%d" % track: of_track.tobytes() for track, of_track in zip(tracks, scores, strict=True)}
        tops = zip(self.tops.items(), np.array(scores).T.tolist(), strict=True)
        tops_changes = {name: top.update(dict(zip(tracks, of_top, strict=True))) for (name, top), of_top in tops}
        return Changes({POPULARITY: fields}, tops_changes)


class Top:
    """The best tracks by score, which only grow; of equal scores the smaller track id is better."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._scores: dict[int, float] = {}

    def load(self, values: Scores) -> None:
        """Add tracks that are stored."""
        self.update({int(member): score for member, score in values.items()})

    def update(self, scores: Mapping[int, float]) -> ScoreChanges:
        """Update scores of tracks; return the changes, None for a track that left."""
        before, every = self._scores, {**self._scores, **scores}
        best = sorted(every, key=lambda track: (-every[track], track))[: self._size]
        self._scores = {track: every[track] for track in best}
        stay = {b"%d" % track: score for track, score in scores.items() if track in self._scores}
        return stay | {b"%d" % track: None for track in before.keys() - self._scores.keys()}


class Sessions:
    """The open sessions of one partition, all in memory, and those that have `closed`, in a fixed order.

    `watermark` has the event time, which is stored with the open sessions.
    """

    def __init__(self, partition: int) -> None:
        self._partition = partition
        self._open: dict[int, OpenSession] = {}
        # (last_ms, user, first offset) of each open session, brought up to date when it comes up
        self._by_age: list[tuple[int, int, int]] = []
        self._touched: set[int] = set()
        self.watermark = Watermark()
        self.closed: list[Session] = []

    def load_fields(self, values: Fields) -> None:
        for user, session in self.watermark.load_fields(values):
            self._start(user, session)

    def fold(self, offset: int, listen: Listen) -> None:
        """Close what has expired by the listen's time, then add it to its session."""
        self.watermark.ms = max(self.watermark.ms, listen.timestamp_ms)
        self._close_expired()
        user = listen.user
        self._touched.add(user)
        session = self._open.get(user)
        if session is None or session.session_id != listen.session_id:
            if session is not None:
                self._close(user, session, "next")
            session = OpenSession(listen.session_id, offset, listen.timestamp_ms, listen.timestamp_ms)
            self._start(user, session)
        session.tracks += 1
        session.time += listen.fraction
        if not session.policy and listen.recommender:
            session.policy = policy_of(listen.recommender, listen.policy)
        session.last_ms = max(session.last_ms, listen.timestamp_ms)
        if listen.ended_session:
            self._close(user, session, "end")

    def changes(self) -> Changes:
        if not (fields := self.watermark.take_changes(touched=bool(self._touched))):
            return Changes()
        for user in self._touched:
            session = self._open.get(user)
            fields[b"%d" % user] = session.to_bytes() if session else None
        self._touched = set()
        return Changes({OPEN_SESSIONS: fields})

    def erase(self, user: int) -> Changes:
        """Drop a listener's open session, between two batches: it never closes."""
        self._open.pop(user, None)
        return Changes({OPEN_SESSIONS: {b"%d" % user: None}})

    def _start(self, user: int, session: OpenSession) -> None:
        self._open[user] = session
        heapq.heappush(self._by_age, (session.last_ms, user, session.first_offset))

    def _close_expired(self) -> None:
        by_age = self._by_age
        while by_age and by_age[0][0] + GAP_MS < self.watermark.ms:
            last_ms, user, first_offset = heapq.heappop(by_age)
            session = self._open.get(user)
            if session is None or session.first_offset != first_offset:
                continue  # closed in the meantime
            if session.last_ms > last_ms:
                heapq.heappush(by_age, (session.last_ms, user, first_offset))
            else:
                self._close(user, session, "gap")
                self._touched.add(user)

    def _close(self, user: int, session: OpenSession, closed_by: str) -> None:
        del self._open[user]
        id_, times_ms = f"{self._partition}-{session.first_offset}", (session.started_ms, session.last_ms)
        self.closed.append(Session(id_, session.session_id, user, *times_ms, session.tracks, session.time, closed_by))
