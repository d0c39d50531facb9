"""Small logs, and rankers that try to profit from a trap."""

from dataclasses import replace

import numpy as np

from botify.analytics.offline.ranking import NO_TRACK
from botify.evaluation.log import Events, Ints, Log
from botify.evaluation.protocols import Plan, Terms, plan_of
from botify.evaluation.ranker import Histories
from botify.evaluation.run import Outcome, run


def random_log(seed: int = 0, users: int = 30, items: int = 40, events: int = 600, *, timed: bool = True) -> Log:
    """Events of users who prefer the first items; some share user and second."""
    generator = np.random.default_rng(seed)
    times = np.sort(generator.integers(0, 2_000, events)) * 200
    return Log.of(
        "random",
        generator.integers(0, users, events),
        np.minimum(generator.exponential(items / 4, events).astype(np.int64), items - 1),
        fractions=generator.choice([0.0, 0.5, 1.0], events).astype(np.float32),
        times_ms=times if timed else None,
        item_count=items,
    )


class Spy:
    """Recommends nothing, and remembers in which order it was called."""

    note = ""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[int], list[int]]] = []

    def learn(self, events: Events) -> None:
        self.calls.append(("learn", events.users.tolist(), events.items.tolist()))

    def rank(self, users: Ints, times_ms: Ints, k: int) -> Ints:
        self.calls.append(("rank", users.tolist(), times_ms.tolist()))
        return np.full((len(users), k), NO_TRACK)


class NextId:
    """Recommends the ids that follow the largest one seen so far."""

    note = ""

    def __init__(self, items: int) -> None:
        self._items = items
        self._largest = -1

    def learn(self, events: Events) -> None:
        self._largest = max(self._largest, int(events.items.max()))

    def rank(self, users: Ints, times_ms: Ints, k: int) -> Ints:
        ids = self._largest + 1 + np.arange(k)
        return np.tile(np.where(ids < self._items, ids, NO_TRACK), (len(users), 1))


class Companions:
    """Recommends what others had at the same time as the user's last item, and the user has not had."""

    note = ""

    def __init__(self) -> None:
        self._histories = Histories()
        self._together: dict[int, list[int]] = {}

    def learn(self, events: Events) -> None:
        for user, item in zip(events.users.tolist(), events.items.tolist(), strict=True):
            block = [other for other in self._history(user) if other // 4 == item // 4]
            for other in block:
                self._together.setdefault(other, []).append(item)
                self._together.setdefault(item, []).append(other)
            self._histories.learn(np.array([user]), np.array([item]))

    def rank(self, users: Ints, times_ms: Ints, k: int) -> Ints:
        lists = np.full((len(users), k), NO_TRACK)
        for row, user in enumerate(users.tolist()):
            heard = self._history(user)
            found = self._together.get(heard[-1], []) if heard else []
            new = [item for item in dict.fromkeys(found) if item not in heard][:k]
            lists[row, : len(new)] = new
        return lists

    def _history(self, user: int) -> list[int]:
        items: list[int] = self._histories.of(np.array([user]))[1].tolist()
        return items


class Follows:
    """Recommends what others had right after the user's last item."""

    note = ""

    def __init__(self) -> None:
        self._after: dict[int, dict[int, int]] = {}
        self._heard: dict[int, list[int]] = {}

    def learn(self, events: Events) -> None:
        for user, item in zip(events.users.tolist(), events.items.tolist(), strict=True):
            heard = self._heard.setdefault(user, [])
            if heard:
                counts = self._after.setdefault(heard[-1], {})
                counts[item] = counts.get(item, 0) + 1
            heard.append(item)

    def rank(self, users: Ints, times_ms: Ints, k: int) -> Ints:
        lists = np.full((len(users), k), NO_TRACK)
        for row, user in enumerate(users.tolist()):
            heard = self._heard.get(user, [])
            counts = self._after.get(heard[-1], {}) if heard else {}
            found = [item for item in sorted(counts, key=lambda item: -counts[item]) if item not in heard][:k]
            lists[row, : len(found)] = found
        return lists


def recall_of(ranker: object, log: Log, terms: Terms, seed: int = 0) -> float:
    """Run a ranker and return the mean recall of what is reported."""
    outcome = run(ranker, plan_of(log, terms, seed), terms)  # type: ignore[arg-type]
    return reported(outcome)


def reported(outcome: Outcome) -> float:
    return float(outcome.metrics["recall"][outcome.reported].mean())


def planned(log: Log, **terms: object) -> Plan:
    return plan_of(log, Terms(**terms), 0)  # type: ignore[arg-type]


def without_permutation(log: Log, terms: Terms) -> Plan:
    """Plan whose items have the ids of the log again: what an evaluation must not do."""
    plan = plan_of(log, terms, 0)
    old = np.argsort(np.random.default_rng(0).permutation(log.items))
    events = plan.log.events._replace(items=old[plan.log.events.items])
    return plan._replace(log=replace(plan.log, events=events), targets=old[plan.targets])
