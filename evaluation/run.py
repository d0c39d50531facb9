"""One recommender run through one plan, and the result for each target."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import psutil
from numpy.typing import NDArray

from botify.analytics.offline.ranking import (
    NO_TRACK,
    Rankings,
    coverage,
    hit_rate,
    ndcg,
    novelty,
    popularity_percentile,
    reciprocal_rank,
)
from botify.evaluation import EvaluationError
from botify.evaluation.log import Bools, Ints
from botify.evaluation.protocols import Plan, Terms
from botify.evaluation.ranker import OnlineRanker

METRICS = ("recall", "NDCG", "MRR")
CHECKED_LISTS = 100_000  # this number of lists, evenly spread, are checked for items that the user has heard
ASK = 64  # users of one question at most
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one run; each of `METRICS` has an array with an entry for each target, see `Plan`.

    `plays` are those of the target's item that were learned before the question.
    """

    users: Ints
    positions: Floats
    histories: Ints
    plays: Ints
    reported: Bools
    metrics: dict[str, Floats]
    figures: dict[str, float]
    note: str


class Stopwatch:
    """CPU time of learning and of serving in the second half of a run: the first has imports and warming up in it."""

    def __init__(self, tell: Callable[[float], None]) -> None:
        self.tell = tell
        self.learn_ns = self.serve_ns = self.learned = self.served = 0

    def figures(self) -> dict[str, float]:
        """Return µs of CPU an event and a list."""
        return {
            "learn_us": self.learn_ns / 1000 / max(self.learned, 1),
            "serve_us": self.serve_ns / 1000 / max(self.served, 1),
        }


def run(ranker: OnlineRanker, plan: Plan, terms: Terms, tell: Callable[[float], None] = lambda share: None) -> Outcome:
    """Run a ranker, and judge its lists; `tell` gets the share that is done.

    Raises `EvaluationError` if a list has an item twice, one that does not exist, or one that the user has heard.
    """
    process = psutil.Process(os.getpid())
    before = process.memory_info().rss
    watch = Stopwatch(tell)
    lists = _lists(ranker, plan, terms.k, watch)
    memory = max(process.memory_info().rss - before - lists.nbytes, 0)
    check(lists, plan, terms)
    return judged(lists, plan, terms, {**watch.figures(), "memory_mb": memory / 2**20}, ranker.note)


def _lists(ranker: OnlineRanker, plan: Plan, k: int, watch: Stopwatch) -> NDArray[np.int32]:
    """Ask all questions of a plan and have all its events learned; lists of shape (q, k)."""
    lists = np.full((len(plan.ask_users), k), NO_TRACK, dtype=np.int32)
    batches = len(plan.batches) - 1
    for batch in range(batches):
        _ask(ranker, plan, batch, lists, watch)
        _learn(ranker, plan, batch, watch)
    _ask(ranker, plan, batches, lists, watch)
    return lists


def _ask(ranker: OnlineRanker, plan: Plan, batch: int, lists: NDArray[np.int32], watch: Stopwatch) -> None:
    begin, end = plan.questions_before(batch)
    learned, total = plan.batches[batch], plan.batches[-1] + len(lists)
    watch.tell((begin + learned) / total)
    for first in range(begin, end, ASK):
        asked = slice(first, min(first + ASK, end))
        started = time.process_time_ns()
        lists[asked] = ranker.rank(plan.ask_users[asked], plan.ask_times_ms[asked], lists.shape[1])
        if first >= len(lists) // 2:
            watch.serve_ns += time.process_time_ns() - started
            watch.served += asked.stop - asked.start
        watch.tell((asked.stop + learned) / total)


def _learn(ranker: OnlineRanker, plan: Plan, batch: int, watch: Stopwatch) -> None:
    chosen = plan.log.events.rows(slice(plan.batches[batch], plan.batches[batch + 1]))
    started = time.process_time_ns()
    ranker.learn(chosen)
    if plan.batches[batch] >= plan.log.events.size // 2:
        watch.learn_ns += time.process_time_ns() - started
        watch.learned += chosen.size


def check(lists: NDArray[np.int32], plan: Plan, terms: Terms) -> None:
    """Raise `EvaluationError` for lists that would make figures better than they are."""
    items = plan.log.items
    if lists.min(initial=NO_TRACK) < NO_TRACK or lists.max(initial=NO_TRACK) >= items:
        raise EvaluationError(f"an item of a list is not among the {items:,} of the catalogue")
    ordered = np.sort(lists, axis=1)
    if ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != NO_TRACK)).any():
        raise EvaluationError("a list has an item twice")
    if terms.repeats:
        return
    events = plan.log.events
    pairs, first = np.unique(events.users * items + events.items, return_index=True)
    chosen = np.unique(np.linspace(0, len(lists) - 1, CHECKED_LISTS).astype(np.int64))
    wanted = plan.ask_users[chosen, None] * items + lists[chosen]
    at = np.minimum(np.searchsorted(pairs, wanted), len(pairs) - 1)
    known = (pairs[at] == wanted) & (first[at] < plan.learned[chosen, None]) & (lists[chosen] != NO_TRACK)
    if known.any():
        raise EvaluationError("a list has an item that its user has heard; this evaluation leaves those out")


def judged(lists: NDArray[np.int32], plan: Plan, terms: Terms, costs: dict[str, float], note: str = "") -> Outcome:
    """Look each target up in its list; lists of shape (q, k)."""
    hits = lists[plan.asks] == plan.targets[:, None]
    users = plan.ask_users[plan.asks]
    rankings = Rankings(users, hits, np.ones(len(hits), dtype=np.int64))
    values = (hit_rate(rankings, terms.k), ndcg(rankings, terms.k), reciprocal_rank(rankings, terms.k))
    shown = lists[np.unique(plan.asks[plan.reported])]
    counts = np.bincount(plan.log.events.items, minlength=plan.log.items)
    figures = {
        "coverage": coverage(shown, plan.log.items),
        "novelty_bits": _mean(novelty(shown, counts)),
        "popularity_percentile": _mean(popularity_percentile(shown, counts)),
        **costs,
    }
    metrics = {name: one.astype(np.float32) for name, one in zip(METRICS, values, strict=True)}
    positions = plan.positions.astype(np.float32)
    return Outcome(users, positions, plan.histories, plan.earlier_plays(), plan.reported, metrics, figures, note)


def _mean(values: NDArray[np.float64]) -> float:
    """Return the mean over the lists that are not empty; NaN where all are."""
    there = values[~np.isnan(values)]
    return float(there.mean()) if len(there) else float("nan")
