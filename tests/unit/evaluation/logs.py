"""Small logs, and rankers that try to profit from a trap."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from botify.analytics.offline.ranking import NO_TRACK
from botify.evaluation.log import Events, Ints, Log
from botify.evaluation.protocols import Plan, Terms, plan_of
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
    """Recommends the same list to everyone, by default nothing, and remembers in which order it was called."""

    note = ""

    def __init__(self, items: Sequence[int] = ()) -> None:
        self._items = items
        self.calls: list[str] = []
        self.learned: list[Events] = []

    def learn(self, events: Events) -> None:
        self.calls.append("learn")
        self.learned.append(events)

    def rank(self, users: Ints, times_ms: Ints, k: int) -> Ints:
        self.calls.append("rank")
        return np.tile(np.array(self._items or [NO_TRACK] * k), (len(users), 1))


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


class Neighbours:
    """Recommends what is most often next to the user's last item, and the user has not had."""

    note = ""

    def __init__(self, pairs: Callable[[list[int], int], list[tuple[int, int]]]) -> None:
        """Take a function of what a user has heard and hears now, to pairs of an item and one next to it."""
        self._pairs = pairs
        self._next_to: dict[int, Counter[int]] = {}
        self._heard: dict[int, list[int]] = {}

    def learn(self, events: Events) -> None:
        for user, item in zip(events.users.tolist(), events.items.tolist(), strict=True):
            heard = self._heard.setdefault(user, [])
            for of, other in self._pairs(heard, item):
                self._next_to.setdefault(of, Counter())[other] += 1
            heard.append(item)

    def rank(self, users: Ints, times_ms: Ints, k: int) -> Ints:
        lists = np.full((len(users), k), NO_TRACK)
        for row, user in enumerate(users.tolist()):
            heard = self._heard.get(user, [])
            next_to = self._next_to.get(heard[-1], Counter()) if heard else Counter[int]()
            new = [item for item, _ in next_to.most_common() if item not in heard][:k]
            lists[row, : len(new)] = new
        return lists


def companions() -> Neighbours:
    """Recommend what others had of the block of the user's last item."""
    return Neighbours(
        lambda heard, item: [
            pair for other in heard if other // 4 == item // 4 for pair in ((other, item), (item, other))
        ]
    )


def follows() -> Neighbours:
    """Recommend what others had right after the user's last item."""
    return Neighbours(lambda heard, item: [(before, item) for before in heard[-1:]])


def recall_of(ranker: object, log: Log, terms: Terms, seed: int = 0) -> float:
    """Run a ranker and return the mean recall of what is reported."""
    return reported(run(ranker, plan_of(log, terms, seed), terms))  # type: ignore[arg-type]


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
