"""The interface of what is evaluated, and what it is built from."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from botify.analytics.offline.ranking import NO_TRACK
from botify.evaluation.log import Events, Ints
from botify.schemas.events import Track

UNTUNED = "untuned"  # note of a peer that runs with its defaults


class OnlineRanker(Protocol):
    """Learns events in micro-batches, and ranks items between them; `note` is what a reader of the table must know."""

    note: str

    def learn(self, events: Events) -> None:
        """Learn the next events of the log."""

    def rank(self, users: Ints, times_ms: Ints, k: int) -> Ints:
        """Return each user's best items, shape (n, k), best first; `NO_TRACK` where a list ends early.

        Without `Setup.repeats`, none that the user has heard in what was learned.
        """


@dataclass(frozen=True, slots=True)
class Setup:
    """What a ranker is built from.

    `users` and `items` are numbers: ids are below. `tracks` is the catalogue by item. `events` will be learned; a
    ranker that is trained in batches is trained after each of `trainings` equal parts, but after the last only if more
    is asked. `refresh` is the number of listens between two refreshes of the models that serve, where learning and
    serving are apart. `settings` are those of the command line for this ranker. For the others see `Terms`.
    """

    users: int
    items: int
    tracks: Sequence[Track]
    events: int
    positive: float = 0.5
    repeats: bool = False
    seed: int = 0
    refresh: int = 1
    trainings: int = 10
    settings: Mapping[str, float] = field(default_factory=dict)


class Histories:
    """Items that each user has heard, in order."""

    def __init__(self) -> None:
        self._items: defaultdict[int, list[int]] = defaultdict(list)

    def learn(self, users: Ints, items: Ints) -> None:
        for user, item in zip(users.tolist(), items.tolist(), strict=True):
            self._items[user].append(item)

    def of(self, users: Ints) -> tuple[Ints, Ints]:
        """Return the rows of the users and their items; both of shape (m,), ordered by row."""
        found = [self._items.get(user, ()) for user in users.tolist()]
        sizes = np.array([len(items) for items in found], dtype=np.int64)
        flat = [item for items in found for item in items]
        return np.repeat(np.arange(len(users)), sizes), np.array(flat, dtype=np.int64)

    def excluded(self, users: Ints, *, repeats: bool) -> tuple[Ints, Ints]:
        """Return what must not be recommended, as `of`: all that was heard, or nothing where `repeats` are allowed."""
        return self.of(users[:0] if repeats else users)

    def longest(self, users: Ints) -> int:
        return max((len(self._items.get(user, ())) for user in users.tolist()), default=0)


def best_of_scores(scores: NDArray[np.floating], excluded: tuple[Ints, Ints], k: int) -> Ints:
    """Return the k best items of each row; `scores`, shape (n, items), change; -inf and `excluded` are left out."""
    scores[excluded] = -np.inf
    width = min(k, scores.shape[1])
    best = np.argpartition(-scores, width - 1, axis=1)[:, :width]
    found = np.take_along_axis(scores, best, axis=1)
    order = np.argsort(-found, axis=1, kind="stable")
    best, found = np.take_along_axis(best, order, axis=1), np.take_along_axis(found, order, axis=1)
    return _padded(np.where(np.isneginf(found), NO_TRACK, best), k)


def without(lists: Ints, excluded: tuple[Ints, Ints], items: int, k: int) -> Ints:
    """Return the first k entries of each row that are not excluded."""
    keys = np.arange(len(lists))[:, None] * items + lists
    rows, heard = excluded
    kept = (lists != NO_TRACK) & ~np.isin(keys, rows * items + heard)
    order = np.argsort(~kept, axis=1, kind="stable")[:, :k]
    front = np.where(np.take_along_axis(kept, order, axis=1), np.take_along_axis(lists, order, axis=1), NO_TRACK)
    return _padded(front, k)


def _padded(lists: Ints, k: int) -> Ints:
    missing = k - lists.shape[1]
    return np.pad(lists, ((0, 0), (0, missing)), constant_values=NO_TRACK) if missing > 0 else lists
