"""The protocols: what is learned in which order, what is asked when, and which item would have been right.

All of them come to one `Plan`, so that every recommender is run by one loop (`botify.evaluation.run`).

- `prequential`: each event is predicted, then learned, once, in order. Events pass in micro-batches; a user is in a
  micro-batch once, but for events of one second: those are tied, and all are predicted before any is learned.
  Figures are those of the second half. With `Terms.block`, larger blocks are predicted from what came before them.
- `leave-last-out`: each user's last positive item is held out and asked for when all other events are learned.
- `temporal-split`: events before a moment are learned; each user's first new positive item after it is asked for.

`validation=True` makes the same plan for what the test leaves: the first half, the log without each user's last item,
the events before the moment. So a setting that is chosen there has not seen what is reported.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from botify.analytics import AnalyticsError
from botify.analytics.offline.ranking import temporal_split
from botify.core.keyed_random import earlier_of_key
from botify.evaluation import EvaluationError
from botify.evaluation.log import POSITIVE, Bools, Events, Ints, Log, is_first

NOTHING = -1
MICRO_BATCH = 64
FUTURE_SHARE = 0.2  # of the events, those after the moment of a temporal split


@dataclass(frozen=True, slots=True)
class Terms:
    """What all recommenders of one table have in common.

    `protocol` is a key of `PROTOCOLS`, `k` the length of the lists. An item is right if its fraction is at least
    `positive`; others are learned, but not asked for. With `repeats`, an item that the user has heard may be
    recommended, and is right when it is heard again. At most `micro_batch` events are predicted before the first of
    them is learned; a longer tie stays together. With `block`, `prequential` learns blocks of that number of events, or
    a few more that are tied: a user may be in a block several times, and is always predicted from what came before it.
    With `shuffle_sittings`, a number of minutes, items that a user heard at most that far apart are permuted.
    """

    protocol: str = "prequential"
    k: int = 10
    positive: float = POSITIVE
    repeats: bool = False
    validation: bool = False
    micro_batch: int = MICRO_BATCH
    block: int | None = None
    shuffle_sittings: float = 0.0


class Plan(NamedTuple):
    """A run: events in micro-batches, questions before each of them, and the right answers.

    log                       its events are in the order in which they are learned
    batches (b + 1)           micro-batch i has the events `batches[i]` to `batches[i + 1]`
    ask_users, ask_times_ms   the questions, (q,)
    asked_before (b + 1)      questions up to `asked_before[i]` (not included) are asked before micro-batch i is
                              learned; the last entry counts them all: those of no micro-batch are asked at the end
    learned (q)               number of events learned when the question is asked
    asks, targets (t)         the question of each target, and the item that would have been right
    positions (t)             share of the events that come before the target
    histories (t)             events of the user learned by then
    reported (t)              whether it counts in the table
    """

    log: Log
    batches: Ints
    ask_users: Ints
    ask_times_ms: Ints
    asked_before: Ints
    learned: Ints
    asks: Ints
    targets: Ints
    positions: np.ndarray[tuple[int], np.dtype[np.float64]]
    histories: Ints
    reported: Bools

    def earlier_plays(self) -> Ints:
        """Return how many events of each target's item are learned before its question, shape (t,)."""
        events, most = self.log.events, self.log.events.size + 1
        keys, begin = np.sort(events.items * most + np.arange(events.size)), self.targets * most
        return np.searchsorted(keys, begin + self.learned[self.asks]) - np.searchsorted(keys, begin)

    def questions_before(self, batch: int) -> tuple[int, int]:
        """Return where the questions before a micro-batch begin and end."""
        return int(self.asked_before[batch - 1]) if batch else 0, int(self.asked_before[batch])


def plan_of(log: Log, terms: Terms, seed: int) -> Plan:
    """Replay the log by a seed, and plan the run; raises `EvaluationError` if the log does not suit the protocol."""
    try:
        planned = PROTOCOLS[terms.protocol]
    except KeyError:
        raise EvaluationError(f"protocol {terms.protocol!r} is none of {', '.join(PROTOCOLS)}") from None
    sitting_ms = int(terms.shuffle_sittings * 60_000)
    if sitting_ms and not log.has_time:
        raise EvaluationError(f"{log.name} has no times, and so no sittings; leave shuffle_sittings out")
    plan = planned(log.replayed(seed, sitting_ms), terms)
    if not plan.reported.any():
        raise EvaluationError(f"{log.name} has no item to ask for by {terms.protocol} from {terms.positive} on")
    return plan


def prequential(log: Log, terms: Terms) -> Plan:
    """Plan to predict each event before it is learned."""
    events = log.events
    if not events.size:
        raise EvaluationError(f"{log.name} is too short")
    half = int(np.searchsorted(events.times_ms // 1000, events.times_ms[events.size // 2] // 1000))
    if terms.validation:
        return prequential(replace(log, events=events.rows(slice(half))), replace(terms, validation=False))
    ties = log.ties()
    if terms.block is None:
        batches, first_tie = _micro_batches(ties, events, terms.micro_batch)
    else:
        batches, first_tie = _blocks(ties, events, terms.block)
    right = _right(log, terms)
    tie_of = np.repeat(np.arange(len(ties)), np.diff(ties, append=events.size))
    asked = np.zeros(len(ties), dtype=bool)
    asked[tie_of[right]] = True  # nobody is asked about a tie without a positive item
    number = np.cumsum(asked) - asked
    target = np.flatnonzero(right)
    begins = ties[tie_of[target]]
    before = earlier_of_key(events.users)
    return Plan(
        log,
        batches,
        events.users[ties[asked]],
        events.times_ms[ties[asked]],
        np.append(number, asked.sum())[np.append(first_tie[1:], len(ties))],
        np.repeat(batches[:-1], np.diff(np.append(number, asked.sum())[first_tie])),
        number[tie_of[target]],
        events.items[target],
        target / events.size,
        before[begins],
        target >= half,
    )


def leave_last_out(log: Log, terms: Terms) -> Plan:
    """Plan to hold out each user's last positive item."""
    events = log.events
    right = _right(log, terms) & (earlier_of_key(events.users) > 0)  # without a history there is nothing to go by
    held = np.full(log.users, NOTHING, dtype=np.int64)
    held[events.users[right]] = np.flatnonzero(right)  # of a user's events, the last assignment stays
    until = np.where(held == NOTHING, events.size, held)
    learned = events.rows(np.arange(events.size) < until[events.users])
    if terms.validation:
        return leave_last_out(replace(log, events=learned), replace(terms, validation=False))
    return _asked_at_end(log, learned, held[held != NOTHING], terms)


def temporal(log: Log, terms: Terms) -> Plan:
    """Plan to learn what comes before a moment, and ask for what comes after it."""
    events = log.events
    if not log.has_time:
        raise EvaluationError(f"{log.name} has no times to split it by; use leave-last-out or prequential")
    try:
        past = len(temporal_split(pd.DataFrame({"timestamp_ms": events.times_ms // 1000}), FUTURE_SHARE).past)
    except AnalyticsError as error:
        raise EvaluationError(f"{log.name}: {error}") from error
    if terms.validation:
        return temporal(replace(log, events=events.rows(slice(past))), replace(terms, validation=False))
    right = _right(log, terms)
    right[:past] = False
    target = np.flatnonzero(right)
    _, first = np.unique(events.users[target], return_index=True)
    held = target[first]
    known = np.bincount(events.users[:past], minlength=log.users) > 0
    return _asked_at_end(log, events.rows(slice(past)), held[known[events.users[held]]], terms)


PROTOCOLS: dict[str, Callable[[Log, Terms], Plan]] = {
    "prequential": prequential,
    "leave-last-out": leave_last_out,
    "temporal-split": temporal,
}


def _right(log: Log, terms: Terms) -> Bools:
    """Return which events could be asked for: positive, and new to the user where repeats do not count."""
    events = log.events
    positive = events.are_positive(terms.positive)
    return positive if terms.repeats else positive & is_first(events.users, events.items, log.items)


def _micro_batches(ties: Ints, events: Events, most: int) -> tuple[Ints, Ints]:
    """Return where micro-batches begin and end, as events and as ties; ties and users stay together in one."""
    ends = np.append(ties[1:], events.size).tolist()
    firsts, members, size = [0], set[int](), 0
    for tie, (user, begin, end) in enumerate(zip(events.users[ties].tolist(), ties.tolist(), ends, strict=True)):
        if members and (user in members or size + end - begin > most):
            firsts.append(tie)
            members.clear()
            size = 0
        members.add(user)
        size += end - begin
    first_tie = np.array([*firsts, len(ties)], dtype=np.int64)
    return np.append(ties, events.size)[first_tie], first_tie


def _blocks(ties: Ints, events: Events, least: int) -> tuple[Ints, Ints]:
    """Return where blocks begin and end, as events and as ties; ties stay together."""
    firsts, begin = [0], 0
    for tie, at in enumerate(ties.tolist()):
        if at - begin >= least:
            firsts.append(tie)
            begin = at
    first_tie = np.array([*firsts, len(ties)], dtype=np.int64)
    return np.append(ties, events.size)[first_tie], first_tie


def _closed(events: Events) -> Events:
    """Return events that are all there is: each user's last one ends its session."""
    ended = events.ended.copy()
    last = np.unique(events.users[::-1], return_index=True)[1]
    ended[events.size - 1 - last] = True
    return events._replace(ended=ended)


def _asked_at_end(log: Log, learned: Events, held: Ints, terms: Terms) -> Plan:
    """Plan to learn, then ask each user once; their order is that of the log's events."""
    events, rest = log.events, replace(log, events=_closed(learned))
    held = np.sort(held)
    batches, _ = _micro_batches(rest.ties(), learned, terms.micro_batch)
    asks = np.arange(len(held))
    users = events.users[held]
    asked_before = np.append(np.zeros(len(batches) - 1, dtype=np.int64), len(held))
    questions = users, events.times_ms[held], asked_before, np.full(len(held), learned.size)
    histories, reported = np.bincount(learned.users, minlength=log.users)[users], np.ones(len(held), dtype=bool)
    return Plan(rest, batches, *questions, asks, events.items[held], held / events.size, histories, reported)
