"""Peers that learn event by event: sessions like the present one, and what a user has played most."""

import heapq
import math
from abc import ABC, abstractmethod
from collections import defaultdict
from itertools import chain

import numpy as np

from botify.analytics.offline.ranking import NO_TRACK
from botify.evaluation.log import Events, Ints
from botify.evaluation.ranker import UNTUNED, Histories, Setup, without


class FilledRanker(ABC):
    """Learns positive events, one by one, and fills lists up with what is popular."""

    def __init__(self, setup: Setup) -> None:
        self.note = "" if setup.settings else UNTUNED
        self._setup, self._all = setup, Histories()
        self._plays = np.zeros(setup.items, dtype=np.int64)
        self._popular: list[int] = []  # most played first, as of `Setup.refresh` events ago at most
        self._learned = self._refreshed = 0

    @abstractmethod
    def add(self, events: Events) -> None:
        """Learn positive events."""

    @abstractmethod
    def own(self, user: int, most: int) -> list[int]:
        """Return up to `most` items for a user, best first."""

    def learn(self, events: Events) -> None:
        positive = events.rows(events.are_positive(self._setup.positive))
        self.add(positive)
        np.add.at(self._plays, positive.items, 1)
        self._learned += events.size
        self._all.learn(events.users, events.items)

    def rank(self, users: Ints, times_ms: Ints, k: int) -> Ints:
        """Rank each user's own items, then popular ones."""
        repeats, items = self._setup.repeats, self._setup.items
        wide = min(k if repeats else k + self._all.longest(users), items)
        if self._learned - self._refreshed >= self._setup.refresh:
            self._refreshed = self._learned
            self._popular = np.argsort(-self._plays, kind="stable")[: np.count_nonzero(self._plays)].tolist()
        lists = np.full((len(users), wide), NO_TRACK, dtype=np.int64)
        for row, user in enumerate(users.tolist()):
            ranked = list(dict.fromkeys([*self.own(user, wide), *self._popular[:wide]]))[:wide]
            lists[row, : len(ranked)] = ranked
        return without(lists, self._all.excluded(users, repeats=repeats), items, k)


LENGTH = 20
NO_SESSION = -1, -1


class VSknn(FilledRanker):
    """V-SKNN, vector multiplication session-based k nearest neighbours (Ludewig and Jannach, UMUAI 28, 2018).

    The session asked about is the user's last 20 different items, weighted from 1 for the newest linearly down to 0. Of
    the `sample` newest sessions that share an item with it (of each item as many), the `k` most similar vote ::

        sim(s, n) = Σ weight of the items of s that n has
        score(i)  = idf(i) · Σ sim(s, n) / place in s of the newest item that n has, over the n that have i

    with idf(i) = ln(sessions / sessions that have i). Sessions are those of the log.
    """

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._k, self._sample = int(setup.settings.get("k", 100)), int(setup.settings.get("sample", 1_000))
        self._sessions: list[dict[int, None]] = []  # their items
        self._having: defaultdict[int, list[int]] = defaultdict(list)  # sessions of each item
        self._counts = np.zeros(setup.items)  # of sessions, of each item
        self._present: dict[int, tuple[int, int]] = {}  # session of each user, and its number in the log
        self._recent: defaultdict[int, dict[int, None]] = defaultdict(dict)  # last items of each user, the newest last

    def add(self, events: Events) -> None:
        rows = zip(events.users.tolist(), events.items.tolist(), events.sessions.tolist(), strict=True)
        for user, item, number in rows:
            session, present = self._present.get(user, NO_SESSION)
            if present != number:
                session = len(self._sessions)
                self._present[user] = session, number
                self._sessions.append({})
            if item not in self._sessions[session]:
                self._sessions[session][item] = None
                self._having[item].append(session)
                self._counts[item] += 1
            recent = self._recent[user]
            recent.pop(item, None)
            recent[item] = None
            if len(recent) > LENGTH:
                del recent[next(iter(recent))]

    def own(self, user: int, most: int) -> list[int]:
        asked = list(reversed(self._recent.get(user, {})))
        having = [self._having[item][-self._sample :] for item in asked]
        places = np.repeat(np.arange(len(asked)), [len(one) for one in having])
        shared = np.fromiter(chain.from_iterable(having), dtype=np.int64)
        sessions, first, which = np.unique(shared, return_index=True, return_inverse=True)
        similarity = np.bincount(which, (len(asked) - places) / max(len(asked), 1))
        newest = np.flatnonzero(sessions != self._present.get(user, NO_SESSION)[0])[-self._sample :]
        nearest = newest[np.argsort(similarity[newest], kind="stable")[-self._k :]]
        voters = [self._sessions[one] for one in sessions[nearest].tolist()]
        votes = np.repeat(similarity[nearest] / (places[first[nearest]] + 1), [len(one) for one in voters])
        items, which = np.unique(np.fromiter(chain.from_iterable(voters), dtype=np.int64), return_inverse=True)
        scores = np.bincount(which, votes) * np.log(len(self._sessions) / self._counts[items])
        ranked: list[int] = items[np.lexsort((items, -scores))][:most].tolist()
        return ranked


class Personal(FilledRanker):
    """What the user has played most, then what all have; for logs with repeats.

    With a setting `half_life`, a play counts half after that number of the user's plays; 0 counts all alike.
    """

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._half_life = setup.settings.get("half_life", 0.0)
        self._counts: defaultdict[int, dict[int, float]] = defaultdict(dict)  # of a user; logarithms if they fade
        self._played: defaultdict[int, int] = defaultdict(int)

    def add(self, events: Events) -> None:
        for user, item in zip(events.users.tolist(), events.items.tolist(), strict=True):
            counts = self._counts[user]
            if self._half_life:
                now = self._played[user] / self._half_life
                # the logarithm of Σ 2^(play / half-life) has the order of the faded count, and never overflows
                counts[item] = now + math.log2(1.0 + 2.0 ** (counts.get(item, -math.inf) - now))
            else:
                counts[item] = counts.get(item, 0.0) + 1.0
            self._played[user] += 1

    def own(self, user: int, most: int) -> list[int]:
        """Return what the user has played most; nothing where that is left out."""
        counts = self._counts.get(user, {}) if self._setup.repeats else {}
        return heapq.nlargest(most, counts, key=lambda item: (counts[item], item))
