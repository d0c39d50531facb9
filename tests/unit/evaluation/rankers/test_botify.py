"""Botify's own recommenders run with the code that serves, and without what the user has heard."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation import EvaluationError, MissingPeerError
from evaluation.evaluate import Job, replays
from evaluation.log import Log
from evaluation.protocols import Terms, plan_of
from evaluation.ranker import Setup
from evaluation.rankers.botify import BotifyRanker, NextTrackRanker
from evaluation.rankers.registry import check_name, ranker_of
from evaluation.run import run
from streams.folds.users import HISTORY_LISTENS
from tests.unit.evaluation.logs import random_log, reported

NAMES = ("next_track", "random", "toppop", "i2i_stream", "fism", "rerank", "ease")


def job(name: str, log: Log, terms: Terms, refresh: int = 20) -> Job:
    return Job(name, log, terms, range(1), refresh)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("protocol", ["prequential", "leave-last-out"])
def test_every_recommender_keeps_the_rules(name: str, protocol: str) -> None:
    (outcome,) = replays(job(name, random_log(), Terms(protocol=protocol)))
    assert outcome.reported.any()


def test_popular_items_are_found_by_popularity() -> None:
    log = random_log(items=200, events=2_000)
    toppop, random = (reported(replays(job(name, log, Terms()))[0]) for name in ("toppop", "random"))
    assert toppop > 2 * random


def test_prequential_lists_come_from_models_as_old_as_the_refresh_allows() -> None:
    def recall(terms: Terms, refresh: int) -> float:
        (outcome,) = replays(job("toppop", random_log(events=2_000, items=200), terms, refresh))
        return reported(outcome)

    never = 10_000
    assert recall(Terms(), never) == 0 < recall(Terms(), 20)
    assert recall(Terms(protocol="leave-last-out"), never) > 0


def test_the_same_seed_gives_the_same_lists() -> None:
    one, other = (replays(job("i2i_stream", random_log(), Terms()))[0] for _ in range(2))
    assert one.metrics["NDCG"].tolist() == other.metrics["NDCG"].tolist()


def test_next_track_ranks_as_the_recommender_that_serves_it() -> None:
    log = random_log(users=40, items=100, events=1_200)
    setup = Setup(log.users, log.items, log.catalogue(), log.events.size)
    model, served = ranker_of("next_track", setup), BotifyRanker("next_track", setup)
    everyone, times_ms = np.arange(log.users), np.zeros(log.users, dtype=np.int64)
    assert np.bincount(log.events.users).max() <= HISTORY_LISTENS
    for begin in range(0, log.events.size, 300):
        for ranker in (model, served):
            ranker.learn(log.events.rows(slice(begin, begin + 300)))
        lists = model.rank(everyone, times_ms, 10)
        assert (lists >= 0).any()
        assert served.rank(everyone, times_ms, 10).tolist() == lists.tolist()


class Slow:
    """`next_track` without its way through many micro-batches at once."""

    note = ""

    def __init__(self, setup: Setup) -> None:
        ranker = NextTrackRanker(setup)
        self.learn, self.rank = ranker.learn, ranker.rank


@pytest.mark.parametrize("terms", [Terms(), Terms(repeats=True, micro_batch=1), Terms(protocol="leave-last-out")])
def test_many_micro_batches_at_once_give_the_same_outcome(terms: Terms, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluation.run.SPAN", 37)
    monkeypatch.setattr("evaluation.run.TIMED", 2)
    log = random_log(events=1_600, items=300)
    plan = plan_of(log, terms, 0)
    setup = Setup(log.users, log.items, (), log.events.size, repeats=terms.repeats)
    fast, slow = (run(ranker, plan, terms).metrics for ranker in (NextTrackRanker(setup), Slow(setup)))
    assert fast["NDCG"].sum() > 0
    assert {name: one.tolist() for name, one in fast.items()} == {name: one.tolist() for name, one in slow.items()}


def test_a_recommender_that_cannot_rank_is_refused() -> None:
    with pytest.raises(
        EvaluationError, match=r"'contextual' draws single tracks .* to be evaluated are random, toppop"
    ):
        check_name("contextual")


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(EvaluationError, match="'guess' is not known; there are random, toppop"):
        ranker_of("guess", Setup(1, 1, (), 1))


def test_a_peer_without_its_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluation.rankers.registry.find_spec", lambda name: None)
    with pytest.raises(MissingPeerError, match=r"als needs the package implicit: pip install 'botify\[peers\]'"):
        check_name("als")
    with pytest.raises(MissingPeerError, match=r"packages torch and .* rectools: pip install 'botify\[sasrec\]', then"):
        check_name("sasrec")
