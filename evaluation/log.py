"""A log of events as columns, and the order in which a seed replays it.

Two traps are closed here. Item ids are permuted by the seed, because many data sets number items by their first
appearance: a tie that is broken by id would then look into the future ("largest id so far + 1" is the answer for 6 %
of the users of the Last.fm sequences). Events of one user in one second have no order that means anything, so theirs is
drawn by the seed, and `botify.evaluation.protocols` predicts all of them before any is learned.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from botify.core.keyed_random import earlier_of_key
from botify.evaluation import EvaluationError
from botify.ingest.dataset import KINDS, SESSION_GAP_MS, open_dataset
from botify.schemas.events import Track
from botify.streams.folds.users import HISTORY_LISTENS

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

SESSION_LISTENS = HISTORY_LISTENS  # listens of a session in a log without times
SLOT_MS = 1000  # a log without times gets a virtual clock, one event after another


class Events(NamedTuple):
    """Events in the order in which they are learned, as columns of length n; ids begin at 0.

    `fractions` are graded feedback: the share that was heard, or what a rating or a like stands for, 0 to 1. `ended` is
    whether nothing follows in the session, as far as the learner may know.
    """

    users: Ints
    items: Ints
    fractions: NDArray[np.float32]
    times_ms: Ints
    sessions: Ints
    ended: Bools

    def are_positive(self, threshold: float) -> Bools:
        """Return which fractions are at least a threshold, shape (n,); they have single precision, it has double."""
        return np.asarray(self.fractions >= threshold - 1e-6)

    def rows(self, chosen: slice | Ints | Bools) -> "Events":
        return Events._make([column[chosen] for column in self])

    @property
    def size(self) -> int:
        return len(self.users)


def joined(parts: Sequence[Events]) -> Events:
    """Return parts one after another."""
    return Events._make([np.concatenate(columns) for columns in zip(*parts, strict=True)])


@dataclass(frozen=True, slots=True)
class Log:
    """A log to evaluate on.

    Each user's events are in their order; the whole in order of time if `has_time`, else users are interleaved at
    random. `tracks` is the catalogue, by item, and may be empty; `digest` that of the imported data set.
    """

    name: str
    events: Events
    users: int
    items: int
    has_time: bool
    tracks: Sequence[Track] = ()
    digest: str = ""

    @classmethod
    def of(
        cls,
        name: str,
        users: Ints,
        items: Ints,
        *,
        fractions: NDArray[np.float32] | None = None,
        times_ms: Ints | None = None,
        sessions: Ints | None = None,
        tracks: Sequence[Track] = (),
        digest: str = "",
        item_count: int = 0,
    ) -> Self:
        """Check the columns, and derive the sessions where the log has none.

        Without `times_ms`, the order of the rows is the order of each user's events. Without `sessions`, a pause of
        `SESSION_GAP_MS` ends a session; a log without times starts one after `SESSION_LISTENS`. `item_count` is for a
        catalogue with more items than the events. Raises `EvaluationError` if there are no events, or the columns
        differ in length.
        """
        n = len(users)
        fractions = np.ones(n, dtype=np.float32) if fractions is None else fractions.astype(np.float32)
        times = np.arange(n, dtype=np.int64) * SLOT_MS if times_ms is None else times_ms
        lengths = {len(users), len(items), len(fractions), len(times), n if sessions is None else len(sessions)}
        if not n or len(lengths) > 1:
            raise EvaluationError(f"{name}: columns of {sorted(lengths)} events; they must be equal and not empty")
        order = np.argsort(times, kind="stable")
        columns = [column[order].astype(np.int64) for column in (users, items, times)]
        if sessions is None:
            sessions_ = _sessions_of(columns[0], columns[2] if times_ms is not None else None)
        else:
            sessions_ = sessions[order].astype(np.int64)
        nothing = np.zeros(n, dtype=bool)
        events = Events(columns[0], columns[1], fractions[order], columns[2], sessions_, nothing)
        known = max(int(items.max()) + 1, len(tracks), item_count)
        return cls(name, events, int(users.max()) + 1, known, times_ms is not None, tracks, digest)

    def catalogue(self) -> Sequence[Track]:
        """Return the tracks; without a catalogue, each is by an artist of its own."""
        return self.tracks or [Track(item, f"artist {item}", None, None, f"track {item}") for item in range(self.items)]

    def replayed(self, seed: int, sitting_ms: int = 0) -> Self:
        """Return the log as a seed sees it: item ids permuted, ties in time and users without times in random order.

        With `sitting_ms`, so are the items of a sitting: events of a user that are at most that far apart.
        """
        generator = np.random.default_rng(seed)
        new_id = generator.permutation(self.items)
        events = self.events.rows(self._order(generator))
        times = events.times_ms if self.has_time else np.arange(events.size, dtype=np.int64) * SLOT_MS
        if sitting_ms:
            events = _shuffled(events, sitting_ms, generator)
        tracks = sorted((one._replace(track=int(new_id[one.track])) for one in self.tracks), key=lambda one: one.track)
        return replace(self, events=events._replace(items=new_id[events.items], times_ms=times), tracks=tracks)

    def _order(self, generator: np.random.Generator) -> Ints:
        events = self.events
        if self.has_time:
            within = generator.random(events.size)
            among = generator.permutation(self.users)[events.users]
            return np.lexsort((within, among, events.times_ms // 1000))
        slots = np.argsort(generator.permutation(events.users), kind="stable")
        order = np.empty(events.size, dtype=np.int64)
        order[slots] = np.argsort(events.users, kind="stable")
        return order

    def ties(self) -> Ints:
        """Return where each tie begins, shape (ties,): the events of one user in one second, or one event alone."""
        events = self.events
        second = events.times_ms // 1000
        new = (np.diff(events.users, prepend=-1) != 0) | (np.diff(second, prepend=second[:1] - 1) != 0)
        return np.flatnonzero(new)


def _shuffled(events: Events, sitting_ms: int, generator: np.random.Generator) -> Events:
    """Permute what was heard in a sitting among its times."""
    sittings = _sessions_of(events.users, events.times_ms, sitting_ms)
    place, drawn = np.argsort(sittings, kind="stable"), np.lexsort((generator.random(events.size), sittings))
    items, fractions = events.items.copy(), events.fractions.copy()
    items[place], fractions[place] = items[drawn], fractions[drawn]
    return events._replace(items=items, fractions=fractions)


def _sessions_of(users: Ints, times_ms: Ints | None, gap_ms: int = SESSION_GAP_MS) -> Ints:
    """Return the number of each event's session: one ends by a pause, or without times after `SESSION_LISTENS`."""
    order = np.argsort(users, kind="stable")
    new = np.diff(users[order], prepend=-1) != 0
    if times_ms is None:
        new |= earlier_of_key(users[order]) % SESSION_LISTENS == 0
    else:
        new |= np.diff(times_ms[order], prepend=0) > gap_ms
    sessions = np.empty(len(users), dtype=np.int64)
    sessions[order] = np.cumsum(new) - 1
    return sessions


def is_first(users: Ints, items: Ints, item_count: int) -> Bools:
    """Return whether each event is the first of its user and item."""
    first = np.zeros(len(users), dtype=bool)
    first[np.unique(users * item_count + items, return_index=True)[1]] = True
    return first


POSITIVE = 0.5
POSITIVE_RATING = 0.75  # four of five stars
STARS = 5.0


def log_of_dataset(home: Path, name: str) -> tuple[Log, float]:
    """Read an imported dataset, and return from which fraction on its events are positive.

    That is `POSITIVE_RATING` for a log of ratings, else `POSITIVE`. Raises `DatasetError` if there is no such dataset.
    """
    dataset = open_dataset(home, name)
    card, events = dataset.card, dataset.events()
    # without times, sessions that are just the users say nothing
    has_sessions = card.has_time or len(np.unique(events.sessions)) > card.users
    log = Log.of(
        name,
        events.users.astype(np.int64),
        events.items.astype(np.int64),
        fractions=events.fractions,
        times_ms=events.times_ms if card.has_time else None,
        sessions=events.sessions if has_sessions else None,
        tracks=list(dataset.catalogue().tracks()),
        digest=card.sha256,
    )
    rated = card.kinds.get("rating", 0) > sum(card.kinds.get(kind, 0) for kind in KINDS if kind != "rating")
    return log, POSITIVE_RATING if rated else POSITIVE


def positive_of(threshold: float) -> float:
    """Return a threshold as a fraction; more than 1 are stars of five.

    Examples
    --------
    >>> positive_of(0.5), positive_of(4)
    (0.5, 0.75)
    """
    return threshold if threshold <= 1 else (threshold - 1) / (STARS - 1)
