"""Peers that learn event by event: sessions like the present one, and what a user has played most."""

import heapq
import math
from abc import ABC, abstractmethod
from collections import defaultdict
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from botify.analytics.offline.ranking import NO_TRACK
from botify.core.numba_cache import plain_array
from botify.evaluation.log import Events, Ints
from botify.evaluation.ranker import UNTUNED, Histories, Setup, best_of_scores, without

NONE = -1
NEIGHBOURS, SAMPLE, LENGTH = 100, 1_000, 20


class Index(NamedTuple):
    """Sessions as chains of entries, one for each item of a session; `NONE` ends a chain.

    users: their sessions, as the log and as this index number them, and their last items, a ring of `LENGTH`.
    """

    items: Ints  # of each entry
    sessions: Ints
    older_of_item: Ints
    older_of_session: Ints
    newest_of_item: Ints  # of each item
    counts: Ints  # sessions that have the item
    newest_of_session: Ints  # of each session
    heard_at: Ints  # number of the session's last event
    users: Ints  # session of each user, and its number in the log
    numbers: Ints
    recent: Ints  # shape (users, LENGTH)
    played: Ints  # events of each user
    size: Ints  # number of sessions, entries and events
    similarity: NDArray[np.float64]  # of each session; zero between two questions, as `scores`
    place: Ints  # of the newest item asked about that it has
    scores: NDArray[np.float64]  # of each item


class _FilledRanker(ABC):
    """Learns positive events, one by one, and fills lists up with what is popular."""

    def __init__(self, setup: Setup) -> None:
        self.note = "" if setup.settings else UNTUNED
        self._setup, self._all = setup, Histories()
        self._popularity = np.zeros(setup.items)

    @abstractmethod
    def add(self, events: Events) -> None:
        """Learn positive events."""

    @abstractmethod
    def own(self, user: int, most: int) -> list[int]:
        """Return up to `most` items for a user, best first."""

    def learn(self, events: Events) -> None:
        """Learn the positive ones of the events."""
        positive = events.rows(events.are_positive(self._setup.positive))
        self.add(positive)
        self._popularity += np.bincount(positive.items, minlength=self._setup.items)
        self._all.learn(events.users, events.items)

    def rank(self, users: Ints, times_ms: Ints, k: int) -> Ints:
        """Rank each user's own items, then popular ones."""
        repeats, items = self._setup.repeats, self._setup.items
        wide = min(k if repeats else k + self._all.longest(users), items)
        played = np.where(self._popularity > 0, self._popularity, -np.inf)[None, :]
        popular = [
            item for item in best_of_scores(played, self._all.of(users[:0]), wide)[0].tolist() if item != NO_TRACK
        ]
        lists = np.full((len(users), wide), NO_TRACK, dtype=np.int64)
        for row, user in enumerate(users.tolist()):
            ranked = list(dict.fromkeys([*self.own(user, wide), *popular]))[:wide]
            lists[row, : len(ranked)] = ranked
        return without(lists, self._all.excluded(users, repeats=repeats), items, k)


class VSknn(_FilledRanker):
    """V-SKNN, vector multiplication session-based k nearest neighbours (Ludewig and Jannach, UMUAI 28, 2018).

    The session asked about is the user's last 20 different items, weighted from 1 for the newest linearly down to 0. Of
    the `sample` most recent sessions that share an item with it (of each item as many), the `k` most similar vote ::

        sim(s, n) = Σ weight of the items of s that n has
        score(i)  = idf(i) · Σ sim(s, n) / place in s of the newest item that n has, over the n that have i

    with idf(i) = ln(sessions / sessions that have i). Only positive items count. Sessions are those of the log, and
    enter the index event by event. Popular items fill a list up. Settings: `k`, `sample`.
    """

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._k, self._sample = int(setup.settings.get("k", NEIGHBOURS)), int(setup.settings.get("sample", SAMPLE))

        def empty(*shape: int) -> Ints:
            return np.full(shape, NONE, dtype=np.int64)

        events, items, users = setup.events, setup.items, setup.users
        self._index = Index(
            empty(events), empty(events), empty(events), empty(events), empty(items), np.zeros(items, np.int64),
            empty(events), empty(events), empty(users), empty(users), empty(users, LENGTH), np.zeros(users, np.int64),
            np.zeros(3, np.int64), np.zeros(events), empty(events), np.zeros(items),
        )  # fmt: skip

    def add(self, events: Events) -> None:
        """Add events to their sessions."""
        _learn(self._index, *(plain_array(one, np.int64) for one in (events.users, events.items, events.sessions)))

    def own(self, user: int, most: int) -> list[int]:
        """Return the items of the most similar sessions."""
        found, scores = _votes(self._index, user, self._k, self._sample)
        ranked: list[int] = found[np.lexsort((found, -scores))][:most].tolist()
        return ranked


@njit(cache=True)
def _learn(index: Index, users: Ints, items: Ints, sessions: Ints) -> None:
    for at in range(len(users)):
        user, item = users[at], items[at]
        if index.users[user] == NONE or index.numbers[user] != sessions[at]:
            index.users[user], index.numbers[user] = index.size[0], sessions[at]
            index.size[0] += 1
        session = index.users[user]
        index.heard_at[session] = index.size[2]
        index.size[2] += 1
        index.recent[user, index.played[user] % LENGTH] = item
        index.played[user] += 1
        entry = index.newest_of_session[session]
        while entry != NONE and index.items[entry] != item:
            entry = index.older_of_session[entry]
        if entry == NONE:
            entry = index.size[1]
            index.size[1] += 1
            index.items[entry], index.sessions[entry] = item, session
            index.older_of_item[entry], index.newest_of_item[item] = index.newest_of_item[item], entry
            index.older_of_session[entry], index.newest_of_session[session] = index.newest_of_session[session], entry
            index.counts[item] += 1


@njit(cache=True)
def _votes(index: Index, user: int, k: int, sample: int) -> tuple[Ints, NDArray[np.float64]]:
    """Return the items of the sessions most like the user's last items, and their scores."""
    asked = _last_items(index, user)
    sessions, found = np.empty(len(asked) * sample, dtype=np.int64), 0
    for place in range(len(asked)):
        entry, walked = index.newest_of_item[asked[place]], 0
        while entry != NONE and walked < sample:
            session = index.sessions[entry]
            if session != index.users[user]:
                if index.similarity[session] == 0.0:
                    index.place[session] = place + 1
                    sessions[found] = session
                    found += 1
                index.similarity[session] += (len(asked) - place) / len(asked)
                walked += 1
            entry = index.older_of_item[entry]
    recent = sessions[:found][np.argsort(index.heard_at[sessions[:found]], kind="mergesort")][-sample:]
    nearest = recent[np.argsort(index.similarity[recent], kind="mergesort")][-k:]  # of equals the most recent
    items, voted = np.empty(index.size[1], dtype=np.int64), 0
    for session in nearest:
        entry = index.newest_of_session[session]
        while entry != NONE:
            item = index.items[entry]
            if index.scores[item] == 0.0:
                items[voted] = item
                voted += 1
            index.scores[item] += index.similarity[session] / index.place[session]
            entry = index.older_of_session[entry]
    items = items[:voted].copy()
    scores = index.scores[items] * np.log(index.size[0] / index.counts[items])
    index.scores[items] = 0.0
    index.similarity[sessions[:found]] = 0.0
    return items, scores


@njit(cache=True)
def _last_items(index: Index, user: int) -> Ints:
    """Return the different ones among the user's last items, newest first."""
    asked, count = np.empty(LENGTH, dtype=np.int64), 0
    for back in range(1, min(index.played[user], LENGTH) + 1):
        item = index.recent[user, (index.played[user] - back) % LENGTH]
        if not (asked[:count] == item).any():
            asked[count] = item
            count += 1
    return asked[:count]


HALF_LIFE = 0.0


class Personal(_FilledRanker):
    """What the user has played most, then what all have; for logs with repeats.

    With a setting `half_life`, a play counts half after that number of the user's plays; 0 counts all alike.
    """

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._half_life = setup.settings.get("half_life", HALF_LIFE)
        self._counts: defaultdict[int, dict[int, float]] = defaultdict(dict)  # of a user; logarithms if they fade
        self._plays: defaultdict[int, int] = defaultdict(int)

    def add(self, events: Events) -> None:
        """Count events."""
        for user, item in zip(events.users.tolist(), events.items.tolist(), strict=True):
            counts = self._counts[user]
            if self._half_life:
                now = self._plays[user] / self._half_life
                # the logarithm of Σ 2^(play / half-life) has the order of the faded count, and never overflows
                counts[item] = now + math.log2(1.0 + 2.0 ** (counts.get(item, -math.inf) - now))
            else:
                counts[item] = counts.get(item, 0.0) + 1.0
            self._plays[user] += 1

    def own(self, user: int, most: int) -> list[int]:
        """Return what the user has played most; nothing where that is left out."""
        counts = self._counts.get(user, {}) if self._setup.repeats else {}
        return heapq.nlargest(most, counts, key=lambda item: (counts[item], item))
